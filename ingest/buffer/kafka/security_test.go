package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
	"github.com/vedette-io/vedette/internal/config"
)

// TestSecurity uses listeners with TLS, SASL and both on a broker of its own.
func TestSecurity(t *testing.T) {
	const user, password = "alice", "correct horse"
	broker := kafkatest.Start(t, kafkatest.Options{Secure: true, Users: map[string]string{user: password}})
	certs := broker.Certificates()
	trusted := TLS{Enabled: true, CAFile: certs.CAFile}
	login := func(mechanism, password string) SASL {
		return SASL{Mechanism: mechanism, Username: user, Password: config.Secret(password)}
	}
	tests := []struct {
		name     string
		listener kafkatest.Listener
		tls      TLS
		sasl     SASL
		err      string // nothing if it works
	}{
		{"tls", kafkatest.TLS, trusted, SASL{}, ""},
		{"tls, client certificate", kafkatest.TLS, TLS{Enabled: true, CAFile: certs.CAFile, CertFile: certs.CertFile, KeyFile: certs.KeyFile}, SASL{}, ""},
		{"tls, server name", kafkatest.TLS, TLS{Enabled: true, CAFile: certs.CAFile, ServerName: "localhost"}, SASL{}, ""},
		{"tls, not verified", kafkatest.TLS, TLS{Enabled: true, InsecureSkipVerify: true}, SASL{}, ""},
		{"tls, unknown authority", kafkatest.TLS, TLS{Enabled: true}, SASL{}, "unknown authority"},
		{"tls, other server", kafkatest.TLS, TLS{Enabled: true, CAFile: certs.CAFile, ServerName: "other"}, SASL{}, "not other"},
		{"plain", kafkatest.SASL, TLS{}, login("plain", password), ""},
		{"plain, wrong password", kafkatest.SASL, TLS{}, login("plain", "x"), "SASL Authentication Failed"},
		{"scram-sha-256", kafkatest.SASL, TLS{}, login("scram-sha-256", password), ""},
		{"scram-sha-256, wrong password", kafkatest.SASL, TLS{}, login("scram-sha-256", "x"), "SASL Authentication Failed"},
		{"scram-sha-512", kafkatest.SASL, TLS{}, login("scram-sha-512", password), ""},
		{"tls and plain", kafkatest.SASLTLS, trusted, login("plain", password), ""},
		{"tls and scram-sha-512", kafkatest.SASLTLS, trusted, login("scram-sha-512", password), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t, broker.SecureAddr(tt.listener))
			cfg.TLS, cfg.SASL = tt.tls, tt.sasl
			require.NoError(t, cfg.Validate())
			if tt.err != "" {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, err := Open(ctx, cfg, []string{testTopic}, nil, nil)
				require.ErrorContains(t, err, tt.err)
				require.NoError(t, ctx.Err(), "it was not refused at once")
				return
			}
			b := openTest(t, cfg)
			_, err := b.Append(testContext(t), testTopic, 0, []buffer.Record{{Tenant: "t", Format: 1, Payload: []byte("secret")}})
			require.NoError(t, err)
			got := consume(t, b, "g", true).await(t, 1)
			require.Equal(t, "secret", string(got[0].Payload))
		})
	}
	t.Run("no tls where it is asked for", func(t *testing.T) {
		cfg := testConfig(t, broker.SecureAddr(kafkatest.TLS))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Open(ctx, cfg, []string{testTopic}, nil, nil)
		require.Error(t, err)
	})
}
