package tls

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/protocol/protocoltest"
)

const (
	myConnections = 4
	myRounds      = 200
)

// askMySQL is the role of a client of MySQL over TLS.
func askMySQL() {
	said := "done"
	var wg sync.WaitGroup
	failures := make([]error, myConnections)
	for i := range failures {
		wg.Go(func() { failures[i] = talkMySQL(os.Args[1]) })
	}
	wg.Wait()
	for _, err := range failures {
		if err != nil {
			said = err.Error()
		}
	}
	fmt.Println(said)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func talkMySQL(addr string) error {
	_ = mysql.SetLogger(&mysql.NopLogger{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := sql.Open("mysql", "root@tcp("+addr+")/test?tls=skip-verify")
	if err != nil {
		return err
	}
	defer db.Close()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range myRounds {
		var n int
		if err := c.QueryRowContext(ctx, "select 1").Scan(&n); err != nil {
			return err
		}
		if _, err := c.ExecContext(ctx, "delete from nosuch"); err == nil {
			return fmt.Errorf("round %d did not fail", i)
		}
		// prepared, executed and closed; its rows do not fit a record
		var s string
		if err := c.QueryRowContext(ctx, "select repeat('x', ?)", 40_000).Scan(&s); err != nil {
			return err
		}
	}
	return nil
}

// What clients ask a real MariaDB over TLS is counted on both sides. What both say
// before they begin it is not.
func TestMySQL(t *testing.T) {
	cert, key := featuretest.Certificate(t)
	addr := protocoltest.StartMariaDBTLS(t, cert, key)
	idle, _ := featuretest.StartRole(t, "server") // the client's file is watched before it begins
	require.NotEmpty(t, idle)
	_, reg := start(t, "mariadbd", filepath.Base(os.Args[0]))
	watching(t, reg, 2)
	said, _ := featuretest.StartRole(t, "mysql", addr)
	require.Equal(t, "done", said)
	const all = myConnections * myRounds
	requireDatabase(t, reg, "mysql", featuretest.PortOf(t, addr), counts{"SELECT ": 2 * all, "DELETE 1146": all, "PREPARE ": all})
}

// The client that comes with MariaDB, where it uses OpenSSL.
func TestMariaDBClient(t *testing.T) {
	client := protocoltest.Program(t, "mariadb")
	cert, key := featuretest.Certificate(t)
	addr := protocoltest.StartMariaDBTLS(t, cert, key)
	_, reg := start(t, "mariadbd", "mariadb")
	watching(t, reg, 1)
	host, port, _ := strings.Cut(addr, ":")
	const clients, each = 4, 50
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			cmd := protocoltest.Command(t, client, "--no-defaults", "-h", host, "-P", port, "-u", "root", "--force", "--ssl", "test")
			cmd.Stdin = strings.NewReader(strings.Repeat("select 1;\nupdate nosuch set a = 1;\n", each))
			_, _ = cmd.CombinedOutput() // it ends with the status of what failed
		})
	}
	wg.Wait()
	requireDatabase(t, reg, "mysql", port, counts{"SELECT ": clients * each, "UPDATE 1146": clients * each})
}
