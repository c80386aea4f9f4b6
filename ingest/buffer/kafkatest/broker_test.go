package kafkatest

import (
	"context"
	"net"
	"testing"
	"time"
)

func TestBroker(t *testing.T) {
	b := Start(t, Options{Secure: true, Users: map[string]string{"alice": "secret"}})
	for _, addr := range []string{b.Addr(), b.SecureAddr(TLS), b.SecureAddr(SASL), b.SecureAddr(SASLTLS)} {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			t.Errorf("dial %s: %v", addr, err)
			continue
		}
		_ = conn.Close()
	}
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	if serves(context.Background(), b.Addr()) {
		t.Error("the broker serves after it was killed")
	}
	if b.Pid() != 0 {
		t.Error("the broker has a process after it was killed")
	}
	if err := b.Restart(); err != nil {
		t.Fatal(err)
	}
	if !serves(context.Background(), b.Addr()) {
		t.Error("the broker does not serve after its restart")
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	if serves(context.Background(), b.Addr()) {
		t.Error("the broker serves after it was stopped")
	}
}
