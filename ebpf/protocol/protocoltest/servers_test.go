package protocoltest

import "testing"

func TestServersStart(t *testing.T) {
	for name, start := range map[string]func(testing.TB) string{"postgres": StartPostgres, "redis": StartRedis, "mariadb": StartMariaDB} {
		t.Run(name, func(t *testing.T) { t.Log(start(t)) })
	}
}
