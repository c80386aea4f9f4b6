// Package tlsclient makes configurations of crypto/tls for clients out of files, and
// makes new ones when the files have changed: certificates are renewed while
// processes run.
//
// A Source reads its files again when it is asked, at most once a second. What it
// returns stays as it is, so whoever has connections asks before each new one, and
// may close those that another configuration was used for. While the files cannot
// be read, or do not fit each other, as in the middle of a renewal, the last ones that
// did stay in use.
package tlsclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/vedette-io/vedette/internal/config"
)

// Files say whom to trust and who we are. All may be empty.
type Files struct {
	CA        string // certificates that may have signed the server's; empty: the system's
	Cert, Key string // of the client

	ServerName         string // that the server's certificate names, instead of its host
	InsecureSkipVerify bool
}

// readAgain is how long files are taken for what they were.
const readAgain = time.Second

// Source has the configuration of the files as they are. It is safe for concurrent
// use.
type Source struct {
	files Files

	mu       sync.Mutex // guards what follows
	contents [3][]byte  // of CA, Cert and Key
	current  *tls.Config
	read     time.Time
}

// New reads the files.
func New(f Files) (*Source, error) {
	s := &Source{files: f}
	contents, err := f.read(os.ReadFile)
	if err != nil {
		return nil, err
	}
	if s.current, err = f.config(contents); err != nil {
		return nil, err
	}
	s.contents, s.read = contents, time.Now()
	return s, nil
}

// Config returns the same configuration until files have changed. It must not be
// changed. An error says why newer files are not used; the configuration is there
// nevertheless.
func (s *Source) Config() (*tls.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) < readAgain {
		return s.current, nil
	}
	s.read = time.Now()
	contents, err := s.files.read(config.ReadAgain)
	if err != nil {
		return s.current, err
	}
	same := true
	for i := range contents {
		same = same && bytes.Equal(contents[i], s.contents[i])
	}
	if same {
		return s.current, nil
	}
	current, err := s.files.config(contents)
	if err != nil {
		return s.current, err
	}
	s.contents, s.current = contents, current
	return current, nil
}

// Dialer returns a function that connects by dial and shakes hands, with the files
// as they are then.
func (s *Source) Dialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		current, _ := s.Config()
		if current.ServerName == "" {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				host = address
			}
			current = current.Clone()
			current.ServerName = host
		}
		plain, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		conn := tls.Client(plain, current)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = plain.Close()
			return nil, err
		}
		return conn, nil
	}
}

func (f *Files) read(readFile func(string) ([]byte, error)) (contents [3][]byte, err error) {
	for i, name := range []string{f.CA, f.Cert, f.Key} {
		if name == "" {
			continue
		}
		if contents[i], err = readFile(name); err != nil {
			return contents, fmt.Errorf("read %s: %w", [...]string{"tls.ca_file", "tls.cert_file", "tls.key_file"}[i], err)
		}
	}
	return contents, nil
}

func (f *Files) config(contents [3][]byte) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName, InsecureSkipVerify: f.InsecureSkipVerify}
	if f.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(contents[0]) {
			return nil, fmt.Errorf("read tls.ca_file: %s has no certificate", f.CA)
		}
	}
	if f.Cert != "" {
		pair, err := tls.X509KeyPair(contents[1], contents[2])
		if err != nil {
			return nil, fmt.Errorf("read tls.cert_file and tls.key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
