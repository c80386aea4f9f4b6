package tlsclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pair makes a certificate that signs itself, and its key.
func pair(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// The configuration stays until files that fit have changed.
func TestSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		name := func(s string) string { return filepath.Join(dir, s) }
		write := func(s string, content []byte) {
			if err := os.WriteFile(name(s), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f := Files{CA: name("ca"), Cert: name("cert"), Key: name("key"), ServerName: "server"}
		if _, err := New(f); err == nil || !strings.Contains(err.Error(), "tls.ca_file") {
			t.Errorf("without files: got %v", err)
		}
		cert, key := pair(t)
		write("ca", []byte("no certificate"))
		write("cert", cert)
		write("key", key)
		if _, err := New(f); err == nil || !strings.Contains(err.Error(), "has no certificate") {
			t.Errorf("CA without a certificate: got %v", err)
		}
		write("ca", cert)
		s, err := New(f)
		if err != nil {
			t.Fatal(err)
		}
		first, err := s.Config()
		if err != nil || first.ServerName != "server" || first.RootCAs == nil || len(first.Certificates) != 1 {
			t.Fatalf("got %+v, %v", first, err)
		}
		cert, key = pair(t)
		write("cert", cert)
		if c, err := s.Config(); c != first || err != nil {
			t.Errorf("within a second: got another configuration, or %v", err)
		}
		<-time.After(readAgain)
		if c, err := s.Config(); c != first || err == nil {
			t.Errorf("certificate without its key: got another configuration, or no error")
		}
		write("key", key)
		<-time.After(readAgain)
		second, err := s.Config()
		if second == first || err != nil {
			t.Errorf("new files: got the old configuration, or %v", err)
		}
		if err := os.Remove(name("ca")); err != nil {
			t.Fatal(err)
		}
		<-time.After(readAgain)
		if c, err := s.Config(); c != second || err == nil {
			t.Errorf("a file is gone: got another configuration, or no error")
		}
	})
}
