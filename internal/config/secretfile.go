package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// LiveSecret is a secret as it is now: one that was read from a file is read again,
// at most once a second, since secrets are changed while processes run. While the
// file cannot be read, or is empty, the last one stays. It is safe for concurrent use.
type LiveSecret struct {
	file string

	mu      sync.Mutex // guards what follows
	value   Secret
	read    time.Time
	reading bool // somebody does, without the lock: a file system may hang
}

const readSecretAgain = time.Second

// NewLiveSecret returns a secret of which the value, and the file that it was read
// from, are known; without a file it stays as it is.
func NewLiveSecret(value Secret, file string) *LiveSecret {
	return &LiveSecret{file: file, value: value, read: time.Now()}
}

// Reveal returns the value.
func (s *LiveSecret) Reveal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == "" || s.reading || time.Since(s.read) < readSecretAgain {
		return s.value.Reveal()
	}
	s.reading = true
	s.mu.Unlock()
	b, err := ReadAgain(s.file)
	s.mu.Lock()
	s.reading, s.read = false, time.Now()
	if text := strings.TrimRight(string(b), "\r\n"); err == nil && text != "" {
		s.value = Secret(text)
	}
	return s.value.Reveal()
}

// IsSet says whether there is one, which does not change; it may be called of nil.
func (s *LiveSecret) IsSet() bool { return s != nil && s.Reveal() != "" }

// String hides the value.
func (s *LiveSecret) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value.String()
}

// maxReadAgain is the largest file that is read again.
const maxReadAgain = 4 << 20

// ReadAgain reads a small file that was read before. One that is not regular, such as
// a pipe, is not: it would be waited for, and has said what it had.
func ReadAgain(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s again: %w", file, errNotRegular)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxReadAgain+1))
	if err == nil && len(b) > maxReadAgain {
		err = fmt.Errorf("read %s again: got more than %d bytes", file, maxReadAgain)
	}
	return b, err
}

var errNotRegular = errors.New("it is not a regular file")
