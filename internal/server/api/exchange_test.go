package api

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// slowBody takes a while, on synctest's clock, to send its body.
type slowBody struct{ takes time.Duration }

func (b slowBody) Read([]byte) (int, error) {
	time.Sleep(b.takes)
	return 0, io.EOF
}

// All questions of one request to the database end at one time, which a body that
// comes slowly puts off.
func TestDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slow = 50 * time.Second
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", slowBody{slow})
		if err != nil {
			t.Fatal(err)
		}
		x := &exchange{API: &API{Config: Config{Lifetime: t.Context()}}, Request: request, base: t.Context()}
		defer x.end()
		left := func() time.Duration {
			read, _ := x.ctx().Deadline()
			write, _ := x.writeCtx().Deadline()
			if !read.Equal(write) {
				t.Errorf("reads end at %s, writes at %s", read, write)
			}
			return time.Until(read)
		}
		if got := left(); got != requestTime {
			t.Errorf("%s at the beginning, want %s", got, requestTime)
		}
		time.Sleep(time.Second)
		if got := left(); got != requestTime-time.Second {
			t.Errorf("%s after a second, want a second less than %s", got, requestTime)
		}
		if _, err := x.read(maxBody); err != nil {
			t.Fatal(err)
		}
		if got := left(); got != requestTime-time.Second {
			t.Errorf("%s after the body, want as much as before it", got)
		}
	})
}
