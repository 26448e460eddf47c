//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startUp starts the provider n times and says how long it took until it told
// Terraform where to connect, and how large the binary is.
func (b *providerBench) startUp(ctx context.Context, n int) (string, error) {
	path := filepath.Join(b.bin, "terraform-provider-byok")
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	cert, err := clientCert()
	if err != nil {
		return "", err
	}
	var all, processor []time.Duration
	for range n {
		wall, cpu, err := handshake(ctx, path, cert)
		if err != nil {
			return "", err
		}
		all, processor = append(all, wall), append(processor, cpu)
	}
	return fmt.Sprintf("The provider's binary has %s and is ready %s (p50), %s (p99) after its start, of which %s CPU.",
		inMegabytes(info.Size()), inMilliseconds(percentile(all, 50)), inMilliseconds(percentile(all, 99)), inMilliseconds(median(processor))), nil
}

// handshake starts the provider as Terraform does and ends it once it is
// ready.
func handshake(ctx context.Context, path, cert string) (wall, cpu time.Duration, err error) {
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(os.Environ(), "TF_PLUGIN_MAGIC_COOKIE=d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
		"PLUGIN_PROTOCOL_VERSIONS=5,6", "PLUGIN_MIN_PORT=10000", "PLUGIN_MAX_PORT=25000", "PLUGIN_CLIENT_CERT="+cert)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	wall = time.Since(start)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || strings.Count(line, "|") < 4 {
		return 0, 0, errors.Join(fmt.Errorf("the provider says %q", line), err)
	}
	return wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// clientCert is what Terraform hands over so that both sides can trust each
// other.
func clientCert() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		return "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}
