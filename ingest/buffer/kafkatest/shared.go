package kafkatest

import (
	"os"
	"sync"
	"testing"
)

// Shared is a broker that the tests of a package share. It starts when the
// first of them asks for it; TestMain closes it:
//
//	var shared kafkatest.Shared
//
//	func TestMain(m *testing.M) {
//		code := m.Run()
//		shared.Close()
//		os.Exit(code)
//	}
type Shared struct {
	Options Options

	once   sync.Once
	dir    string
	broker *Broker
	err    error
}

// Broker returns the broker. It skips the test if Missing says why.
func (s *Shared) Broker(t testing.TB) *Broker {
	t.Helper()
	if why := Missing(); why != "" {
		t.Skip(why)
	}
	s.once.Do(func() {
		if s.dir, s.err = os.MkdirTemp("", "kafka"); s.err == nil {
			s.broker, s.err = Run(s.dir, s.Options)
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.broker
}

// Close stops the broker, if it was started, and removes its data.
func (s *Shared) Close() {
	if s.broker != nil {
		_ = s.broker.Kill()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}
