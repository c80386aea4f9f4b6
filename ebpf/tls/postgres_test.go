package tls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/protocol/protocoltest"
)

// Connections at a time, what each asks, and how much it has under way.
const (
	pgConnections = 4
	pgRounds      = 300
	pgPipeline    = 16
)

// inParallel does ask on several connections and says how that went.
func inParallel(ask func(ctx context.Context, c *pgx.Conn) error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	failures := make([]error, pgConnections)
	for i := range failures {
		wg.Go(func() {
			c, err := pgx.Connect(ctx, "postgres://postgres@"+os.Args[1]+"/postgres?sslmode=require")
			if err == nil {
				err = ask(ctx, c)
			}
			failures[i] = err
		})
	}
	wg.Wait()
	said := "done"
	if err := errors.Join(failures...); err != nil {
		said = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	fmt.Println(said)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// askPostgres is the role of a client that asks and waits, and sends batches.
func askPostgres() {
	inParallel(func(ctx context.Context, c *pgx.Conn) error {
		defer c.Close(ctx)
		if _, err := c.Exec(ctx, "create temp table t (a int)"); err != nil {
			return err
		}
		for i := range pgRounds {
			if _, err := c.Exec(ctx, "insert into t values ($1)", pgx.QueryExecModeExec, i); err != nil {
				return err
			}
			if _, err := c.Exec(ctx, "delete from nosuch"); err == nil {
				return errors.New("did not fail")
			}
		}
		b := new(pgx.Batch)
		for i := range 100 {
			b.Queue("update t set a = $1", i)
		}
		return c.SendBatch(ctx, b).Close()
	})
}

// racePostgres is the role of a client of which one goroutine writes and another
// reads, at the same time: one statement after another, then several under way.
func racePostgres() {
	inParallel(func(ctx context.Context, c *pgx.Conn) error {
		h, err := c.PgConn().Hijack()
		if err != nil {
			return err
		}
		defer h.Conn.Close()
		for _, window := range []int{1, pgPipeline} {
			room := make(chan struct{}, window)
			written := make(chan error, 1)
			go func() {
				written <- func() error {
					for i := range pgRounds * 2 {
						room <- struct{}{}
						text := "select 1"
						if i%2 == 1 {
							text = "delete from nosuch"
						}
						b, err := (&pgproto3.Query{String: text}).Encode(nil)
						if err != nil {
							return err
						}
						if _, err := h.Conn.Write(b); err != nil {
							return err
						}
					}
					return nil
				}()
			}()
			for n := 0; n < pgRounds*2; {
				m, err := h.Frontend.Receive()
				if err != nil {
					return err
				}
				if _, ok := m.(*pgproto3.ReadyForQuery); ok {
					n++
					<-room
				}
			}
			if err := <-written; err != nil {
				return err
			}
		}
		b, _ := new(pgproto3.Terminate).Encode(nil)
		_, err = h.Conn.Write(b)
		return err
	})
}

// databaseCounts are requests by operation and status.
func databaseCounts(t testing.TB, reg *prometheus.Registry, system, side, port string) counts {
	t.Helper()
	got := make(counts)
	for _, m := range featuretest.Family(t, reg, "db_"+side+"_operation_duration_seconds", map[string]string{"server_port": port}) {
		require.Equal(t, system, featuretest.Label(m, "db_system_name"))
		got[featuretest.Label(m, "db_operation_name")+" "+featuretest.Label(m, "db_response_status_code")] += m.Histogram.GetSampleCount()
	}
	return got
}

func requireDatabase(t testing.TB, reg *prometheus.Registry, system, port string, want counts) {
	t.Helper()
	for _, side := range []string{"client", "server"} {
		deadline := time.Now().Add(time.Minute)
		for time.Now().Before(deadline) && !maps.Equal(databaseCounts(t, reg, system, side, port), want) {
			<-time.After(20 * time.Millisecond)
		}
		if got := databaseCounts(t, reg, system, side, port); !maps.Equal(got, want) {
			for _, m := range featuretest.Family(t, reg, "vedette_ebpf_tls_lost_total", nil) {
				if v := m.Counter.GetValue(); v > 0 {
					t.Logf("lost: %s %v", featuretest.Label(m, "reason"), v)
				}
			}
			t.Fatalf("%s: got %v, want %v", side, got, want)
		}
	}
}

// What clients ask a real PostgreSQL over TLS is counted on both sides, though one
// thread writes what another reads the answer to.
func TestPostgres(t *testing.T) {
	const all = pgConnections * pgRounds
	for _, tc := range []struct {
		role string
		want counts
	}{
		{"postgres", counts{"CREATE ": pgConnections, "INSERT ": all, "DELETE 42P01": all, "UPDATE ": pgConnections * 100, "PREPARE ": pgConnections}},
		{"race", counts{"SELECT ": 2 * all, "DELETE 42P01": 2 * all}},
	} {
		t.Run(tc.role, func(t *testing.T) {
			cert, key := featuretest.Certificate(t)
			addr := protocoltest.StartPostgresTLS(t, cert, key)
			idle, _ := featuretest.StartRole(t, "server") // the client's file is watched before it begins
			require.NotEmpty(t, idle)
			_, reg := start(t, "postgres", filepath.Base(os.Args[0]))
			watching(t, reg, 2)
			said, _ := featuretest.StartRole(t, tc.role, addr)
			require.Equal(t, "done", said)
			requireDatabase(t, reg, "postgresql", featuretest.PortOf(t, addr), tc.want)
		})
	}
}

// libpq, by OpenSSL on both sides.
func TestPostgresLibpq(t *testing.T) {
	psql := protocoltest.Program(t, "psql")
	cert, key := featuretest.Certificate(t)
	addr := protocoltest.StartPostgresTLS(t, cert, key)
	_, reg := start(t, "postgres", "psql")
	watching(t, reg, 1)
	host, port, _ := strings.Cut(addr, ":")
	var wg sync.WaitGroup
	const clients, each = 4, 50
	for range clients {
		wg.Go(func() {
			cmd := protocoltest.Command(t, psql, "-X", "-q", "-h", host, "-p", port, "-U", "postgres", "-d", "postgres")
			cmd.Env = append(cmd.Env, "PGSSLMODE=require")
			cmd.Stdin = strings.NewReader(strings.Repeat("select 1;\nupdate nosuch set a = 1;\n", each))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Error(err, string(out))
			}
		})
	}
	wg.Wait()
	requireDatabase(t, reg, "postgresql", port, counts{"SELECT ": clients * each, "UPDATE 42P01": clients * each})
}
