package rows

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
)

// shopGen makes spans as a shop of 20 services would: 200 pods, trees of 5 to 60
// spans, semantic-convention attributes, user ids on a third of the spans, a
// percent of errors with stack traces. The same seed gives the same spans.
type shopGen struct {
	rng      *rand.Rand
	services []shopService
	now      float64 // unix nanoseconds
	step     float64 // mean time between traces
	pending  []shopSpan
	held     []shopSpan // come with the next batch

	// byService sends what one service made in each batch, as its SDK would.
	byService bool
	queue     [][]shopSpan
}

type shopService struct {
	name string
	ops  []shopOp
}

type shopOp struct {
	name       string
	kind       uint8
	mean       float64 // nanoseconds
	method     string
	route      string
	peer       string
	statements []string
	user       float64 // share of spans with a user id
}

type shopSpan struct {
	service, pod int
	op           *shopOp
	trace        signal.TraceID
	id, parent   signal.SpanID
	start, end   int64
	status       uint8
}

const shopStart = 1_790_000_000_000_000_000

func newShopGen(seed uint64) *shopGen {
	g := &shopGen{rng: rand.New(rand.NewPCG(seed, 7)), now: shopStart, step: 3600e9 / (5e6 / 25.8)}
	nouns := []string{"cart", "order", "payment", "user", "catalog", "search", "price", "stock", "mail", "auth"}
	var statements []string
	for i := range 50 {
		n := nouns[i%len(nouns)]
		s := fmt.Sprintf("SELECT %s_id, created_at, updated_at, status, amount_%d FROM %ss WHERE %s_id = $1 AND tenant = $2", n, i, n, n)
		if i%3 == 0 {
			s += fmt.Sprintf(" AND region IN ($3, $4, $5) ORDER BY updated_at DESC LIMIT %d", 10+i)
		}
		statements = append(statements, s)
	}
	for s := range 20 {
		svc := shopService{name: fmt.Sprintf("%s-service-%d", nouns[s%10], s/10)}
		for o := range 6 {
			route := fmt.Sprintf("/api/v%d/%s/{id}/%s", 1+o%2, nouns[s%10], nouns[(s+o)%10])
			method := []string{"GET", "POST", "GET", "PUT", "GET", "DELETE"}[o]
			mean := math.Exp(g.rng.Float64()*5) * 0.4e6
			user := 0.0
			if o%2 == 0 {
				user = 0.66
			}
			svc.ops = append(svc.ops,
				shopOp{name: method + " " + route, kind: 2, mean: mean, method: method, route: route, user: user},
				shopOp{name: method, kind: 3, mean: mean, method: method, peer: nouns[(s*3+o)%10] + "-service-0", user: user})
		}
		for o := range 3 {
			svc.ops = append(svc.ops,
				shopOp{name: "SELECT " + nouns[(s+o)%10], kind: 3, mean: 1e6 + 3e6*g.rng.Float64(), peer: "pg-" + nouns[(s+o)%10], statements: statements[(s*3+o)%48 : (s*3+o)%48+2]},
				shopOp{name: fmt.Sprintf("render%d", o), kind: 1, mean: 0.3e6, user: 0.5})
		}
		g.services = append(g.services, svc)
	}
	return g
}

func (g *shopGen) span(t signal.TraceID, parent *shopSpan, service int) shopSpan {
	s := shopSpan{service: service, pod: g.rng.IntN(10), trace: t}
	ops := g.services[service].ops
	s.op = &ops[g.rng.IntN(len(ops))]
	if parent == nil {
		s.op = &ops[2*g.rng.IntN(6)]
		g.now += g.rng.ExpFloat64() * g.step
		s.start = int64(g.now)
	} else {
		s.parent = parent.id
		s.start = parent.start + int64(g.rng.Float64()*0.7*float64(parent.end-parent.start))
		if service == parent.service {
			s.pod = parent.pod
		}
	}
	for s.id.IsZero() {
		put64(s.id[:], g.rng.Uint64())
	}
	s.end = s.start + 20_000 + int64(g.rng.ExpFloat64()*s.op.mean)
	if g.rng.IntN(100) == 0 {
		s.status = 2
	}
	return s
}

func put64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

// trace appends the spans of one more trace to pending.
func (g *shopGen) trace() {
	var t signal.TraceID
	put64(t[:], g.rng.Uint64())
	put64(t[8:], g.rng.Uint64())
	n := 5 + int(math.Min(g.rng.ExpFloat64()*21, 55))
	first := len(g.pending)
	g.pending = append(g.pending, g.span(t, nil, 0))
	for len(g.pending)-first < n {
		p := g.pending[first+g.rng.IntN(len(g.pending)-first)]
		service := p.service
		if p.op.kind == 3 && p.op.statements == nil || g.rng.IntN(3) == 0 {
			service = g.rng.IntN(20)
		}
		g.pending = append(g.pending, g.span(t, &p, service))
	}
}

// batch fills b with about n spans, a sixteenth of which belong to traces of the
// batch before.
func (g *shopGen) batch(b *signal.Spans, n int) {
	b.Reset()
	b.Tenant = "default"
	if g.byService {
		for len(g.queue) == 0 {
			g.services20(n)
		}
		g.fill(b, g.queue[0])
		g.queue = g.queue[1:]
		return
	}
	g.pending = append(g.pending[:0], g.held...)
	g.held = g.held[:0]
	for len(g.pending) < n {
		g.trace()
	}
	spans := g.pending
	for k := len(spans) - 1; k >= 0; k-- {
		if spans[k].trace[3] < 16 && spans[k].id[0] < 128 && len(g.held) < n/8 {
			g.held = append(g.held, spans[k])
			spans = slices.Delete(spans, k, k+1)
		}
	}
	g.fill(b, spans)
}

// services20 queues a batch of every service.
func (g *shopGen) services20(n int) {
	g.pending = g.pending[:0]
	for len(g.pending) < n*len(g.services) {
		g.trace()
	}
	of := make([][]shopSpan, len(g.services))
	for _, s := range g.pending {
		of[s.service] = append(of[s.service], s)
	}
	g.queue = append(g.queue, of...)
}

func (g *shopGen) fill(b *signal.Spans, spans []shopSpan) {
	slices.SortStableFunc(spans, func(x, y shopSpan) int { return cmp.Or(cmp.Compare(x.service, y.service), cmp.Compare(x.pod, y.pod)) })
	for i := range spans {
		s := &spans[i]
		if i == 0 || s.service != spans[i-1].service || s.pod != spans[i-1].pod {
			g.resource(b, s)
		}
		g.add(b, s)
	}
}

func addText(b *signal.Spans, s string) signal.ByteRange {
	r := signal.ByteRange{Off: uint32(len(b.Buf)), Len: uint32(len(s))}
	b.Buf = append(b.Buf, s...)
	return r
}

func addAttr(b *signal.Spans, key, value string) {
	b.Attrs = append(b.Attrs, signal.Attr{Key: addText(b, key), Type: signal.AttrString, Num: signal.PackRange(addText(b, value))})
}

func addIntAttr(b *signal.Spans, key string, v int64) {
	b.Attrs = append(b.Attrs, signal.Attr{Key: addText(b, key), Type: signal.AttrInt, Num: uint64(v)})
}

func (g *shopGen) resource(b *signal.Spans, s *shopSpan) {
	begin := uint32(len(b.Attrs))
	name := g.services[s.service].name
	pod := fmt.Sprintf("%s-6d5f8c7b9-%05x", name, s.service*1000+s.pod*7919)
	for _, kv := range [][2]string{
		{"service.name", name}, {"service.namespace", "shop"}, {"service.version", fmt.Sprintf("1.%d.0", s.service)}, {"service.instance.id", pod + "-id"},
		{"k8s.pod.name", pod}, {"k8s.pod.uid", fmt.Sprintf("%08x-1111-2222-3333-%012x", s.service, s.pod)}, {"k8s.namespace.name", "prod"},
		{"k8s.node.name", fmt.Sprintf("node-%d", s.pod)}, {"k8s.deployment.name", name}, {"container.id", fmt.Sprintf("%064x", s.service*100+s.pod)},
		{"host.name", fmt.Sprintf("ip-10-0-%d-%d", s.service, s.pod)}, {"os.type", "linux"}, {"telemetry.sdk.language", "go"}, {"telemetry.sdk.name", "opentelemetry"},
		{"telemetry.sdk.version", "1.38.0"}, {"deployment.environment.name", "production"},
	} {
		addAttr(b, kv[0], kv[1])
	}
	b.Resources = append(b.Resources, signal.Resource{AttrBegin: begin, AttrEnd: uint32(len(b.Attrs)), SchemaURL: addText(b, "https://opentelemetry.io/schemas/1.26.0")})
	b.Scopes = append(b.Scopes, signal.Scope{Resource: uint32(len(b.Resources) - 1), Name: addText(b, "go.opentelemetry.io/contrib/instrumentation/net/http"), Version: addText(b, "0.63.0")})
}

func (g *shopGen) add(b *signal.Spans, s *shopSpan) {
	begin, op := uint32(len(b.Attrs)), s.op
	if op.method != "" {
		addAttr(b, "http.request.method", op.method)
		code := int64(200)
		if s.status == 2 {
			code = 500
		} else if g.rng.IntN(20) == 0 {
			code = 404
		}
		addIntAttr(b, "http.response.status_code", code)
		addAttr(b, "network.protocol.version", "1.1")
	}
	if op.route != "" {
		addAttr(b, "http.route", op.route)
		addAttr(b, "url.scheme", "https")
		addIntAttr(b, "net.peer.port", 32768+g.rng.Int64N(28000))
	}
	if op.peer != "" {
		addAttr(b, "server.address", op.peer)
		addIntAttr(b, "server.port", 8080)
	}
	if op.statements != nil {
		addAttr(b, "db.system", "postgresql")
		addAttr(b, "db.statement", op.statements[g.rng.IntN(len(op.statements))])
	}
	addIntAttr(b, "thread.id", 1+g.rng.Int64N(64))
	if g.rng.Float64() < op.user {
		addAttr(b, "user.id", fmt.Sprintf("user-%d", g.rng.IntN(1_000_000)))
	}
	b.AttrBegin, b.AttrEnd = append(b.AttrBegin, begin), append(b.AttrEnd, uint32(len(b.Attrs)))
	b.Scope = append(b.Scope, uint32(len(b.Scopes)-1))
	b.TraceIDs, b.SpanIDs, b.Parents = append(b.TraceIDs, s.trace), append(b.SpanIDs, s.id), append(b.Parents, s.parent)
	b.Starts, b.Ends = append(b.Starts, s.start), append(b.Ends, s.end)
	b.Names, b.Kinds = append(b.Names, addText(b, op.name)), append(b.Kinds, op.kind)
	b.Statuses, b.Messages = append(b.Statuses, s.status), append(b.Messages, signal.ByteRange{})
	b.States, b.Flags = append(b.States, signal.ByteRange{}), append(b.Flags, 1)
	b.DroppedAttrs, b.DroppedEvents, b.DroppedLinks = append(b.DroppedAttrs, 0), append(b.DroppedEvents, 0), append(b.DroppedLinks, 0)
	b.EventBegin, b.LinkBegin, b.LinkEnd = append(b.EventBegin, uint32(len(b.Events))), append(b.LinkBegin, 0), append(b.LinkEnd, 0)
	if s.status == 2 {
		begin := uint32(len(b.Attrs))
		addAttr(b, "exception.type", "java.lang.IllegalStateException")
		addAttr(b, "exception.message", fmt.Sprintf("request %d timed out", g.rng.IntN(1_000_000)))
		stack := "java.lang.IllegalStateException: timed out\n"
		for len(stack) < 600 {
			stack += fmt.Sprintf("\tat com.example.shop.%s.Handler%d.call(Handler.java:%d)\n", g.services[s.service].name, g.rng.IntN(9), g.rng.IntN(400))
		}
		addAttr(b, "exception.stacktrace", stack)
		b.Events = append(b.Events, signal.Event{Time: s.end - 1000, Name: addText(b, "exception"), AttrBegin: begin, AttrEnd: uint32(len(b.Attrs))})
	}
	b.EventEnd = append(b.EventEnd, uint32(len(b.Events)))
}
