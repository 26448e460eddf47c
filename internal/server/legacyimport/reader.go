package legacyimport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxLine is the longest line that is read, in bytes: the API takes no larger
// body either. WIRE.md section 5.
const maxLine = 10 << 20

var errTooLong = errors.New("longer than 10 MiB")

var byteOrderMark = []byte("\xef\xbb\xbf")

// reader reads lines, however they end, and leaves blank ones out. It never
// holds more than the longest line allowed.
type reader struct {
	r      *bufio.Reader
	line   []byte
	number int   // of the line read last, counted from 1
	bytes  int64 // read so far
}

func newReader(r io.Reader) *reader { return &reader{r: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next line that is not blank, valid until the next call;
// errTooLong, after which the next line follows; or the error of the reader,
// io.EOF at the end.
func (r *reader) next() ([]byte, error) {
	for {
		line, err := r.read()
		if err != nil {
			return nil, err
		}
		if r.number == 1 {
			line = bytes.TrimPrefix(line, byteOrderMark)
		}
		if line = bytes.Trim(line, " \t\r\n"); len(line) > 0 {
			return line, nil
		}
	}
}

// read returns one line with its end.
func (r *reader) read() ([]byte, error) {
	r.line = r.line[:0]
	tooLong := false
	for begun := false; ; begun = true {
		part, err := r.r.ReadSlice('\n')
		r.bytes += int64(len(part))
		if !begun && (len(part) > 0 || err == nil) {
			r.number++
		}
		if tooLong = tooLong || len(r.line)+len(part) > maxLine; !tooLong {
			r.line = append(r.line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || (len(r.line) == 0 && !tooLong)):
			return nil, err
		case tooLong:
			return nil, errTooLong
		}
		return r.line, nil
	}
}
