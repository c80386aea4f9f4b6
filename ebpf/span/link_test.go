package span

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/internal/signal"
)

const (
	traceA = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanX  = "00f067aa0ba902b7"
	spanY  = "00f067aa0ba902b8"
)

// call describes a recorded one: who, role, connection, time, header.
func call(pid uint32, server bool, port uint16, from, to int64, header string) *seen {
	client, host := netip.MustParseAddrPort("10.0.0.1:4000"), netip.MustParseAddrPort("10.0.0.2:80")
	client = netip.AddrPortFrom(client.Addr(), port)
	c := &feature.Call{
		Process: identity.Key{PID: pid}, Server: server, Local: client, Peer: host, NetNS: pid, Seq: 100,
		StartNanos: from, EndNanos: to, Traceparent: header,
	}
	if server {
		c.Local, c.Peer = host, client
	}
	return newSeen(c)
}

func tp(span, flags string) string { return "00-" + traceA + "-" + span + "-" + flags }

func link(l func(*linker), known ...*seen) []linked {
	k := newLinker(known)
	k.salt = "boot"
	if l != nil {
		l(k)
	}
	var all []linked
	for _, s := range known {
		all = append(all, k.link(s))
	}
	return all
}

func TestLinks(t *testing.T) {
	none := strings.Repeat("0", 16)
	parent := func(l linked) string { return hex.EncodeToString(l.parent[:]) }
	id := func(l linked) string { return hex.EncodeToString(l.id[:]) }
	open := func(s *seen) *seen { s.open = true; return s }
	fleet := func(l *linker) { l.fleet = true }
	doubt := func(l *linker) { l.doubt = true }
	// want names the parent of each call: the number of a call, a span id, or none.
	for _, tc := range []struct {
		name  string
		set   func(*linker)
		calls []*seen
		want  []any
	}{
		{"two ends without a header", nil, []*seen{call(1, false, 1, 10, 40, ""), call(2, true, 1, 20, 30, "")}, []any{none, 0}},
		{"one end without a header", nil, []*seen{call(2, true, 1, 20, 30, "")}, []any{none}},
		{"three ends are ambiguous", nil,
			[]*seen{call(1, false, 1, 10, 40, ""), call(2, true, 1, 20, 30, ""), call(3, true, 1, 20, 30, "")}, []any{none, none, none}},
		{"two headers do not join", nil,
			[]*seen{call(1, false, 1, 10, 40, tp(spanX, "01")), call(2, true, 1, 20, 30, tp(spanY, "01"))}, []any{spanX, spanY}},
		{"a proxy hands the header on", nil, []*seen{
			call(1, false, 1, 10, 90, tp(spanX, "01")), call(2, true, 1, 20, 80, tp(spanX, "01")),
			call(2, false, 2, 30, 70, tp(spanX, "01")), call(3, true, 2, 40, 60, tp(spanX, "01")),
		}, []any{spanX, 0, 1, 2}},
		{"a proxy whose request is open", nil, []*seen{
			call(2, false, 2, 30, 70, tp(spanX, "01")), call(3, true, 2, 40, 60, tp(spanX, "01")), open(call(2, true, 1, 20, 0, tp(spanX, "01"))),
		}, []any{2, 0, spanX}},
		{"a hop that is not seen", nil, []*seen{
			call(2, true, 1, 20, 80, tp(spanX, "01")), call(4, true, 2, 40, 60, tp(spanX, "01")),
		}, []any{spanX, none}},
		{"a header received twice by the process", nil, []*seen{
			call(2, true, 1, 20, 80, tp(spanX, "01")), call(2, true, 3, 21, 80, tp(spanX, "01")), call(2, false, 2, 30, 70, tp(spanX, "01")),
		}, []any{spanX, none, none}},
		{"a call after the request that brought the header", nil, []*seen{
			call(2, true, 1, 20, 30, tp(spanX, "01")), call(2, false, 2, 31, 70, tp(spanX, "01")),
		}, []any{spanX, none}},
		{"a tracer's header", nil, []*seen{
			call(2, true, 1, 20, 80, tp(spanX, "01")), call(2, false, 2, 30, 70, tp(spanY, "01")),
		}, []any{spanX, spanY}},
		{"a tracer that did not record", nil, []*seen{
			call(2, true, 1, 20, 80, tp(spanX, "00")), call(2, false, 2, 30, 70, tp(spanY, "00")),
		}, []any{none, 0}},
		{"one that did not record, twice in the process", nil, []*seen{
			call(2, true, 1, 20, 80, tp(spanX, "00")), call(2, true, 3, 20, 80, tp(spanY, "00")), call(2, false, 2, 30, 70, tp(spanY, "00")),
		}, []any{none, none, 1}},
		{"calls were lost", doubt, []*seen{
			call(1, false, 1, 10, 90, tp(spanX, "01")), call(2, true, 1, 20, 80, tp(spanX, "01")),
		}, []any{none, 0}},
		{"another process has the header", nil, []*seen{
			call(2, true, 1, 20, 80, tp(spanX, "01")), call(5, false, 2, 30, 70, tp(spanX, "01")),
		}, []any{spanX, none}},
		{"no valid header", nil, []*seen{call(2, true, 1, 20, 80, "00-"+traceA+"-0000000000000000-01")}, []any{none}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := link(tc.set, tc.calls...)
			for i, w := range tc.want {
				if n, ok := w.(int); ok {
					w = id(got[n])
					require.Equal(t, got[n].trace, got[i].trace)
				}
				require.Equal(t, w, parent(got[i]), "call %d", i)
				if tc.calls[i].headed {
					require.Equal(t, traceA, hex.EncodeToString(got[i].trace[:]))
				}
			}
		})
	}
	// Another host's recorder finds the same ids.
	one := link(nil, call(1, false, 1, 10, 40, ""))[0]
	other := link(func(l *linker) { fleet(l); l.salt = "another" }, call(2, true, 1, 20, 30, ""))[0]
	require.Equal(t, one.id, other.parent)
	require.Equal(t, one.trace, other.trace)
}

// A server's clock may begin before its request did, when it has read several at
// once: then it is not the first for certain.
func TestReadTogether(t *testing.T) {
	server, client := call(1, true, 1, 10, 40, tp(spanX, "01")), call(2, false, 2, 20, 30, tp(spanX, "01"))
	got := link(nil, server, client)
	require.False(t, got[0].parent.IsZero())
	server.call.HadNanos = 25
	got = link(nil, server, client)
	require.True(t, got[0].parent.IsZero())
	require.True(t, got[1].parent.IsZero())
}

// What a server has read together has one time of arrival. Where the call is known by
// which its client asked, it began no earlier, for links and in its span.
func TestReadTogetherAsked(t *testing.T) {
	header := tp(spanX, "01")
	for _, tc := range []struct {
		name           string
		asked, had     int64
		first          bool // the outer client has the header's parent
		client, server int64
	}{
		{"known", 30, 40, true, 30, 30},
		{"known, and earlier", 3, 40, false, 30, 5},
		{"not known", 0, 40, false, 5, 5},
		{"the call was made again", 50, 40, false, 5, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// The inner server has read the end of the handshake with the request, which
			// has come before the outer request was written.
			outer, proxy := call(1, false, 1, 10, 90, header), call(2, true, 1, 11, 80, header)
			client, server := call(2, false, 2, 30, 70, header), call(3, true, 2, 5, 60, header)
			client.call.AskedNanos, server.call.HadNanos = tc.asked, tc.had
			got := link(nil, outer, proxy, client, server)
			require.Equal(t, tc.first, !got[0].parent.IsZero())
			require.Equal(t, got[0].id, got[1].parent)
			require.Equal(t, got[1].id, got[2].parent)
			require.Equal(t, got[2].id, got[3].parent)
			require.Equal(t, tc.client, client.start(server))
			require.Equal(t, tc.server, server.start(client))
		})
	}
}

// Calls of connections whose other end cannot be told have ids of their own.
func TestAlone(t *testing.T) {
	at := func(conn uint64, server bool) *seen {
		return newSeen(&feature.Call{Conn: conn, Server: server, EndNanos: 1})
	}
	calls := []*seen{at(1, true), at(1, false), at(2, true), at(2, false)}
	calls[1].place.seq = 5
	got := link(func(l *linker) { l.fleet = true }, calls...)
	ids := make(map[signal.SpanID]bool)
	for _, g := range got {
		ids[g.id] = true
	}
	require.Len(t, ids, 4)
	require.True(t, got[0].parent.IsZero(), "fleet: a server's parent is made up")
}

// The same addresses in two network namespaces are two connections.
func TestLoopbackNamespaces(t *testing.T) {
	at := func(ns uint32, server bool) *seen {
		c := &feature.Call{
			Local: netip.MustParseAddrPort("127.0.0.1:4000"), Peer: netip.MustParseAddrPort("[::ffff:127.0.0.1]:80"),
			NetNS: ns, Seq: 1, Server: server, EndNanos: 1,
		}
		if server {
			c.Local, c.Peer = c.Peer, c.Local
		}
		return newSeen(c)
	}
	got := link(nil, at(1, false), at(1, true), at(2, false), at(2, true), at(3, true))
	require.Equal(t, got[0].id, got[1].parent)
	require.Equal(t, got[2].id, got[3].parent)
	require.NotEqual(t, got[0].id, got[2].id)
	require.True(t, got[4].parent.IsZero())
}

func TestParseHeader(t *testing.T) {
	for s, want := range map[string]bool{
		tp(spanX, "01"):                                       true,
		" " + tp(spanX, "00") + "\t":                          true,
		"cc-" + traceA + "-" + spanX + "-01-extra":            true,
		"00-" + traceA + "-" + spanX + "-01-extra":            false,
		"ff-" + traceA + "-" + spanX + "-01":                  false,
		strings.ToUpper(tp(spanX, "01")):                      false,
		"00-" + strings.Repeat("0", 32) + "-" + spanX + "-01": false,
		tp(spanX, "0g"):                                       false,
		"":                                                    false,
	} {
		_, ok := parseHeader(s)
		require.Equal(t, want, ok, s)
	}
}

// The ratio holds, and a larger one keeps all that a smaller one keeps.
func TestRatio(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	recorders := map[float64]*Recorder{}
	for _, ratio := range []float64{0, 0.1, 0.5, 1} {
		c := DefaultConfig()
		c.Ratio = ratio
		recorders[ratio] = New(Options{Config: c})
	}
	local, peer := netip.MustParseAddrPort("10.0.0.1:4000"), netip.MustParseAddrPort("10.0.0.2:80")
	kept := map[float64]int{}
	const n = 20_000
	for range n {
		b := make([]byte, 16)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		header, seq := "", rng.Uint32()
		if rng.IntN(2) == 0 {
			header = "00-" + hex.EncodeToString(b) + "-" + spanX + "-00"
		}
		last := true
		for _, ratio := range []float64{1, 0.5, 0.1, 0} {
			w := recorders[ratio].Wanted(header, seq, local, peer)
			require.Equal(t, w, recorders[ratio].Wanted(header, seq, peer, local))
			require.False(t, w && !last)
			if last = w; w {
				kept[ratio]++
			}
		}
	}
	for ratio, k := range kept {
		require.InDelta(t, ratio*n, k, 4*math.Sqrt(n*ratio*(1-ratio))+1e-9)
	}
	require.Zero(t, kept[0])
}

func TestConfigValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for want, edit := range map[string]func(*Config){
		"ratio":  func(c *Config) { c.Ratio = 1.5 },
		"ratio:": func(c *Config) { c.Ratio = math.NaN() },
		"wait":   func(c *Config) { c.Wait = tick },
		"buffer": func(c *Config) { c.Buffer = 1 },
	} {
		c := DefaultConfig()
		edit(&c)
		require.ErrorContains(t, c.Validate(), want)
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(tp(spanX, "01"))
	f.Add("ff-")
	f.Fuzz(func(t *testing.T, s string) {
		h, ok := parseHeader(s)
		if r, sampled := traceRandom(strings.Trim(s, " \t")); ok {
			require.True(t, sampled)
			var want uint64
			for _, b := range h.trace[9:] {
				want = want<<8 | uint64(b)
			}
			require.Equal(t, want, r)
		}
	})
}
