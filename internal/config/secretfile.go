package config

import (
	"os"
	"strings"
	"sync"
	"time"
)

// LiveSecret is a secret as it is now: one that was read from a file is read again,
// at most once a second, since secrets are changed while processes run. While the
// file cannot be read, or is empty, the last one stays. It is safe for concurrent use.
type LiveSecret struct {
	file string

	mu    sync.Mutex // guards what follows
	value Secret
	read  time.Time
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
	if s.file == "" || time.Since(s.read) < readSecretAgain {
		return s.value.Reveal()
	}
	s.read = time.Now()
	if b, err := os.ReadFile(s.file); err == nil {
		if text := strings.TrimRight(string(b), "\r\n"); text != "" {
			s.value = Secret(text)
		}
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
