package forward

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/vfs"
)

// identity is a certificate with its key.
type identity struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	pem     []byte
	keyPEM  []byte
	keyPair tls.Certificate
}

// issue makes a certificate that signer has signed, or one that signs itself.
func issue(t *testing.T, name string, signer *identity) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA: signer == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	by := &identity{cert: c, key: key}
	if signer != nil {
		by = signer
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	i := &identity{key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}
	if i.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if i.keyPair, err = tls.X509KeyPair(i.pem, i.keyPEM); err != nil {
		t.Fatal(err)
	}
	return i
}

// Authority, certificates of both sides and token are replaced under load, the token
// file also by something that is none for a while: every record is there, once and in
// order.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var mu sync.Mutex // guards what follows
	token := "token-0"
	var serving *tls.Config
	refused := 0
	use := func(n int) (authority, client *identity) {
		authority = issue(t, fmt.Sprint("authority ", n), nil)
		client = issue(t, "agent", authority)
		pool := x509.NewCertPool()
		pool.AddCert(authority.cert)
		mu.Lock()
		defer mu.Unlock()
		token = fmt.Sprint("token-", n)
		serving = &tls.Config{Certificates: []tls.Certificate{issue(t, "server", authority).keyPair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
		return authority, client
	}
	r := openReceiver(t, vfs.NewMem(), 1)
	defer r.close()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		ok := q.Header.Get("Authorization") == "Bearer "+token
		if !ok {
			refused++
		}
		mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.next.ServeHTTP(w, q)
	}))
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return serving, nil
	}}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	authority, client := use(0)
	server.StartTLS()
	defer server.Close()

	c := DefaultConfig()
	c.Endpoint, c.MaxBackoff = server.URL, 200*time.Millisecond
	c.BearerToken, c.BearerTokenFile = "token-0", file("token", []byte("token-0\n"))
	c.TLS = TLS{CAFile: file("ca.pem", authority.pem), CertFile: file("cert.pem", client.pem), KeyFile: file("key.pem", client.keyPEM)}
	q := openQueue(t, vfs.NewMem(), nil)
	defer q.Close()
	stop := forwarding(t, q, c, nil)
	defer stop()
	next := 0
	load := func(n int) {
		for range n {
			addLogs(t, q, next, next+5, 100)
			next += 5
		}
		waitDelivered(t, q, int64(next))
	}
	load(10)
	for n := 1; n <= 3; n++ {
		if n < 3 {
			authority, client = use(n)
		} else { // the token alone
			mu.Lock()
			token = fmt.Sprint("token-", n)
			mu.Unlock()
		}
		server.CloseClientConnections()
		addLogs(t, q, next, next+50, 100) // nothing fits for now
		next += 50
		file("cert.pem", client.pem) // without its key for a while
		file("token", nil)
		load := func() { addLogs(t, q, next, next+50, 100); next += 50 }
		<-time.After(1200 * time.Millisecond)
		load()
		file("key.pem", client.keyPEM)
		file("ca.pem", authority.pem)
		file("token", []byte(fmt.Sprint("token-", n)))
		load()
		waitDelivered(t, q, int64(next))
	}
	load(10)
	stop()
	wantBodies(t, received(t, r), numbers(0, next))
	if refused == 0 {
		t.Error("no request with an old token was refused")
	}
	t.Logf("%d records, %d requests with another token", next, refused)
}

// received reads what a receiver has, outside of a bubble.
func received(t *testing.T, r *receiver) (got []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := r.log.Consume(ctx, "test", buffer.TopicLogs, func(ctx context.Context, c buffer.Claim) error {
		defer cancel()
		for next := c.Oldest(); next < c.HighWatermark(); {
			messages, err := c.Next(ctx)
			if err != nil {
				return err
			}
			for _, m := range messages {
				next = m.Offset + 1
				payload := m.Payload
				if m.Format == buffer.FormatOTLPLogsSnappy {
					if payload, err = appendPlain(nil, m.Payload); err != nil {
						return err
					}
				}
				if m.Format != buffer.FormatPosition {
					got = append(got, bodies(payload)...)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
