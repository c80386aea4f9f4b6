package redis

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/protocoltest"
)

func parser() protocol.Parser { return New() }

func withClient(version int, f func(t *testing.T, ctx context.Context, c *redis.Conn)) func(*testing.T, string) {
	return func(t *testing.T, addr string) {
		c := redis.NewClient(&redis.Options{Addr: addr, Protocol: version, DisableIdentity: true, PoolSize: 1})
		conn := c.Conn()
		f(t, t.Context(), conn)
		require.NoError(t, conn.Close())
		require.NoError(t, c.Close())
	}
}

func repeat(n int, s ...string) (all []string) {
	for range n {
		all = append(all, s...)
	}
	return all
}

func all(t *testing.T, ctx context.Context, c *redis.Conn) {
	require.NoError(t, c.Set(ctx, "k", "secret", 0).Err())
	require.NoError(t, c.Get(ctx, "k").Err())
	require.ErrorIs(t, c.Get(ctx, "nosuch").Err(), redis.Nil)
	require.Error(t, c.LPush(ctx, "k", 1).Err())
	require.NoError(t, c.RPush(ctx, "l", "a", "b", "c").Err())
	require.NoError(t, c.LRange(ctx, "l", 0, -1).Err())
	require.NoError(t, c.HSet(ctx, "h", "f", 1, "g", "2").Err())
	require.NoError(t, c.HGetAll(ctx, "h").Err())
	require.NoError(t, c.ZAdd(ctx, "z", redis.Z{Score: 1.5, Member: "m"}).Err())
	require.NoError(t, c.ZRangeWithScores(ctx, "z", 0, -1).Err())
	require.Error(t, c.Do(ctx, "nosuchcommand", "x").Err())
	_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, "n")
		p.Incr(ctx, "n")
		return nil
	})
	require.NoError(t, err)
	_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 10 {
			p.Get(ctx, fmt.Sprint("k", i))
		}
		p.LPush(ctx, "k", 1)
		p.Ping(ctx)
		return nil
	})
	require.Error(t, err)
}

func wantCommands() []string {
	want := []string{
		"SET", "GET", "GET", "LPUSH !WRONGTYPE", "RPUSH", "LRANGE", "HSET", "HGETALL", "ZADD", "ZRANGE", "OTHER !ERR",
		"MULTI", "INCR", "INCR", "EXEC",
	}
	return append(append(want, repeat(10, "GET")...), "LPUSH !WRONGTYPE", "PING")
}

// raw writes bytes and reads until the server closes the connection.
func raw(script string) func(*testing.T, string) {
	return func(t *testing.T, addr string) {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, script)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, c)
		require.NoError(t, err)
	}
}

func scenarios() []protocoltest.Scenario {
	return []protocoltest.Scenario{
		{
			Name: "resp3", Note: "go-redis 9, RESP3: commands, errors, MULTI, a pipeline",
			Run: withClient(3, all), Want: append([]string{"HELLO", "CLIENT !ERR"}, wantCommands()...),
		},
		{
			Name: "resp2", Note: "go-redis 9, RESP2: commands, errors, MULTI, a pipeline",
			Run: withClient(2, all), Want: append([]string{"HELLO"}, wantCommands()...),
		},
		{
			Name: "lines", Note: "bytes written by hand: commands as lines, scripts, a transaction that is aborted, all in one write",
			Run: raw("set a 1\r\nget a\r\neval \"return {1,{2,{'x'}}}\" 0\r\neval \"return redis.error_reply('MYOWN thing')\" 0\r\n" +
				"blpop nolist 0.01\r\nconfig get save\r\nmulti\r\nset a 2\r\nnosuch\r\nexec\r\n\r\nquit\r\n"),
			Want: []string{
				"SET", "GET", "EVAL", "EVAL !OTHER", "BLPOP", "CONFIG", "MULTI", "SET", "OTHER !ERR", "EXEC !EXECABORT", "QUIT",
			},
		},
		{
			Name: "large", Note: "go-redis 9: values, arrays and pipelines beyond what is copied",
			Run: withClient(3, func(t *testing.T, ctx context.Context, c *redis.Conn) {
				require.NoError(t, c.Set(ctx, "big", strings.Repeat("x", 20_000), 0).Err())
				require.NoError(t, c.Get(ctx, "big").Err())
				require.NoError(t, c.MGet(ctx, "big", "none", "big").Err())
				var many []any
				for i := range 1000 {
					many = append(many, i)
				}
				require.NoError(t, c.RPush(ctx, "many", many...).Err())
				require.NoError(t, c.LRange(ctx, "many", 0, -1).Err())
				require.NoError(t, c.Ping(ctx).Err())
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
					for i := range 40 {
						p.Set(ctx, fmt.Sprint("key", i), i, 0)
					}
					return nil
				})
				require.NoError(t, err)
				require.NoError(t, c.Ping(ctx).Err())
			}),
			Want: append(append([]string{"HELLO", "CLIENT !ERR", "SET", "GET", "MGET", "RPUSH", "LRANGE", "PING"}, repeat(40, "SET")...), "PING"),
			// How many commands lie in a gap is told by the replies alone.
			WantHead: append(append(append([]string{"HELLO", "CLIENT !ERR", "SET", "GET", "MGET", "RPUSH", "LRANGE", "PING"}, repeat(17, "SET")...), repeat(23, "OTHER")...), "PING"),
		},
		{
			Name: "subscribe2", Note: "bytes written by hand, RESP2: a subscription, its messages, and commands as lines",
			Run: raw("PING\r\nSUBSCRIBE a b\r\nPING\r\nUNSUBSCRIBE\r\nset k v\r\nPUBLISH a x\r\nQUIT\r\n"),
			// UNSUBSCRIBE ends with the first of its confirmations.
			Want: []string{"PING", "SUBSCRIBE", "PING", "UNSUBSCRIBE", "SET", "PUBLISH", "QUIT"},
		},
		{
			Name: "subscribe3", Note: "bytes written by hand, RESP3: messages pushed to the one who publishes, replies turned off",
			Run:  raw("HELLO 3\r\nSUBSCRIBE a b\r\nPUBLISH a x\r\nCLIENT REPLY SKIP\r\nGET a\r\nGET b\r\nCLIENT REPLY OFF\r\nGET c\r\nCLIENT REPLY ON\r\nUNSUBSCRIBE a b\r\nQUIT\r\n"),
			Want: []string{"HELLO", "SUBSCRIBE", "PUBLISH", "GET", "CLIENT", "UNSUBSCRIBE", "QUIT"},
		},
	}
}

func TestRecord(t *testing.T)     { protocoltest.Record(t, scenarios(), protocoltest.StartRedis) }
func TestRecordings(t *testing.T) { protocoltest.Check(t, scenarios(), parser) }

func FuzzParser(f *testing.F) {
	protocoltest.Seed(f)
	f.Fuzz(func(t *testing.T, b []byte) { protocoltest.Hostile(t, New(), b) })
}

// A connection is picked up wherever it is when the probe starts.
func TestJoinInTheMiddle(t *testing.T) {
	s := scenarios()[0]
	r := protocoltest.Load(t, "testdata/resp3.txt")
	for skip := range len(r) - 4 {
		for _, server := range []bool{false, true} {
			found := protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: server, Skip: skip, Head: 512, Tail: 32}))
			require.NotEmpty(t, found, "from chunk %d", skip)
			require.Equal(t, s.Want[len(s.Want)-len(found):], found, "from chunk %d", skip)
		}
	}
}

// A piece that was not copied costs the commands in it, not those after it.
func TestLostPiece(t *testing.T) {
	s := scenarios()[0]
	r := protocoltest.Load(t, "testdata/resp3.txt")
	for lose := 3; lose < len(r)-4; lose++ {
		found := protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: true, Lose: lose}))
		require.GreaterOrEqual(t, len(found), len(s.Want)-12, fmt.Sprint(lose, found))
		require.LessOrEqual(t, len(found), len(s.Want), fmt.Sprint(lose, found))
		require.Equal(t, "PING", found[len(found)-1], "without chunk %d", lose)
	}
}

func TestWhatIsTold(t *testing.T) {
	r := protocoltest.Load(t, "testdata/resp2.txt")
	q := protocoltest.Play(New(), r, protocoltest.View{Server: true})[1]
	require.Equal(t, "SET ? ?", q.Summary)
	require.Equal(t, protocol.Redis, q.Kind)
	require.Equal(t, int64(len("*3\r\n$3\r\nset\r\n$1\r\nk\r\n$6\r\nsecret\r\n")), q.RequestBytes)
	require.Equal(t, int64(len("+OK\r\n")), q.ResponseBytes)
	require.Equal(t, int64(1e6+1e5), q.EndNanos-q.StartNanos)
}

func TestNoAllocations(t *testing.T) {
	for _, name := range []string{"resp2", "resp3"} {
		r := protocoltest.Load(t, "testdata/"+name+".txt")
		require.Zero(t, protocoltest.Allocs(New(), r, 4), name)
	}
}

func BenchmarkParser(b *testing.B) {
	protocoltest.Bench(b, New(), protocoltest.Load(b, "testdata/resp2.txt"), 4)
}
