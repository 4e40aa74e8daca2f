package records

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// maxLineBytes bounds what one line may take of memory.
const maxLineBytes = 64 << 20

// lines reads lines in the background, so that the end of ctx need not wait for
// the next line of an idle terminal. The channel is closed at the end; then err tells why.
type lines struct {
	next chan []byte
	err  error
}

func readLines(ctx context.Context, r io.Reader) *lines {
	l := &lines{next: make(chan []byte, 1024)}
	go func() {
		defer close(l.next)
		l.err = l.read(ctx, bufio.NewReaderSize(r, 256<<10))
	}()
	return l
}

func (l *lines) read(ctx context.Context, r *bufio.Reader) error {
	for n := 1; ; n++ {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d: %w", n, err)
		}
		select {
		case l.next <- line:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readLine returns a copy of the next line without its end. The last line may lack one.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			if len(line) > maxLineBytes {
				return nil, fmt.Errorf("longer than %d bytes; records are separated by line ends", maxLineBytes)
			}
			continue
		}
		if err == nil {
			line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
			if line == nil {
				line = []byte{}
			}
		}
		return line, err
	}
}
