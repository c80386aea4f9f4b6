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

// counted is how often each operation was found.
func counted(found []string) map[string]int {
	m := make(map[string]int)
	for _, f := range found {
		m[f]++
	}
	return m
}

// pieces cuts what one side says.
func pieces(fromClient bool, s string, size int) (r protocoltest.Recording) {
	for ; len(s) > 0; s = s[min(len(s), size):] {
		r = append(r, protocoltest.Chunk{FromClient: fromClient, Data: []byte(s[:min(len(s), size)])})
	}
	return r
}

// Pipelines longer than the queue are told apart nevertheless, whether the client
// waits for all replies or not.
func TestLongPipelines(t *testing.T) {
	const set, get, ok, none = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "+OK\r\n", "$-1\r\n"
	for _, n := range []int{maxWaiting / 2, 3 * maxWaiting, (maxWaiting + maxFurther) / 2} {
		for _, size := range []int{1000, 16384} {
			for _, server := range []bool{false, true} {
				var r protocoltest.Recording
				want := map[string]int{"SET": 3*n + 1, "GET": 3 * n}
				for range 3 {
					r = append(r, pieces(true, strings.Repeat(set+get, n), size)...)
					r = append(r, pieces(false, strings.Repeat(ok+none, n), size)...)
				}
				r = append(append(r, pieces(true, set, size)...), pieces(false, ok, size)...)
				require.Equal(t, want, counted(protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: server}))), "%d at a time", 2*n)
				// more is asked while replies are under way
				ask, answers := pieces(true, strings.Repeat(set+get, 3*n), size), pieces(false, strings.Repeat(ok+none, 3*n), 100)
				r = r[:0]
				for len(ask) > 0 || len(answers) > 0 {
					lead := min(len(ask), 3)
					r, ask = append(r, ask[:lead]...), ask[lead:]
					follow := min(len(answers), 1)
					if len(ask) == 0 {
						follow = len(answers)
					}
					r, answers = append(r, answers[:follow]...), answers[follow:]
				}
				if n <= 3*maxWaiting && size == 1000 {
					want["SET"]--
					require.Equal(t, want, counted(protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: server}))), "%d without waiting", 6*n)
				}
			}
		}
	}
}

// Beyond that they are counted without their names, and none by another's.
func TestTooLongPipeline(t *testing.T) {
	const n = maxWaiting + maxFurther + 100
	r := append(pieces(true, strings.Repeat("GET a\r\n", n), 16384), pieces(false, strings.Repeat("$-1\r\n", n), 16384)...)
	r = append(append(r, pieces(true, "PING\r\n", 100)...), pieces(false, "+PONG\r\n", 100)...)
	p := New()
	found := counted(protocoltest.Brief(protocoltest.Play(p, r, protocoltest.View{})))
	require.Equal(t, map[string]int{"GET": n - 101, "OTHER": 101, "PING": 1}, found)
	require.Less(t, p.Held(), 40_000, "the memory of a long pipeline stays")
}

// Values that are longer than what is copied hide the commands behind them; their
// replies count.
func TestPipelineOfLongValues(t *testing.T) {
	set := fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$20000\r\n%s\r\n", strings.Repeat("x", 20000))
	var r protocoltest.Recording
	for range 10 {
		r = append(r, pieces(true, strings.Repeat(set, 8), 16384)...)
		r = append(r, pieces(false, strings.Repeat("+OK\r\n", 8), 16384)...)
	}
	for _, server := range []bool{false, true} {
		found := counted(protocoltest.Brief(protocoltest.Play(New(), r, protocoltest.View{Server: server, Head: 512, Tail: 32})))
		require.Equal(t, 80, found["SET"]+found["OTHER"], "%v", found)
	}
}
