package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A renewed certificate is used without a restart; a broken one leaves the old
// one in use.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(serial int64, changed time.Time) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
		certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: certificate}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
			if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(certFile, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	write(1, began)
	c, err := newCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	serial := func(isDue bool) int64 {
		t.Helper()
		if isDue {
			c.checked = time.Time{}
		}
		parsed, err := x509.ParseCertificate(c.get(slog.New(slog.DiscardHandler)).Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return parsed.SerialNumber.Int64()
	}
	write(2, began.Add(time.Minute))
	for _, tt := range []struct {
		isDue bool
		want  int64
	}{{false, 1}, {true, 2}, {true, 2}} {
		if got := serial(tt.isDue); got != tt.want {
			t.Errorf("certificate %d is served, want %d", got, tt.want)
		}
	}
	if err := os.WriteFile(certFile, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(true); got != 2 {
		t.Errorf("certificate %d is served after a broken one, want 2", got)
	}
	write(3, began.Add(2*time.Minute))
	if got := serial(true); got != 3 {
		t.Errorf("certificate %d is served, want 3", got)
	}
}
