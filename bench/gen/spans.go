package gen

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/klauspost/compress/gzip"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// SpanOptions describes one run's spans.
type SpanOptions struct {
	Spans    int           // about; the last trace is whole
	Duration time.Duration // that the traces' starts are spread over
	EndNanos int64         // no trace starts later
	Seed     uint64        // same options: same bytes
	// PlainFrom is the span from which on requests are not compressed; those before
	// are as gzip.
	PlainFrom int
}

// SpanTruth is what a store must find of a spool's spans.
type SpanTruth struct {
	*SpanFacts
	// Words counts the spans of databases by table, which is a word of
	// db.query.text.
	Words map[string]int64
	Bytes int64 // of all requests before compression
	First int64 // start of the first and of the last span, unix nanoseconds
	Last  int64
}

const (
	podsPerService = 10
	agents         = 10 // collectors that gather the spans of the pods on a node
	users          = 100_000
	minBatch       = 500 // spans in a request
	maxBatch       = 1000
)

// UserID is the user.id of a user.
func UserID(user int) string { return fmt.Sprintf("u-%d", user) }

// SpanServices are the names of the services that spans come from.
var SpanServices = []string{
	"frontend", "api-gateway", "cart", "checkout", "payment", "shipping", "currency", "email", "product-catalog", "recommendation",
	"ad", "search", "inventory", "user-profile", "auth", "fraud-detection", "pricing", "reviews", "notification", "ledger",
}

// spanGen makes traces one after another and packs them into requests.
type spanGen struct {
	o     SpanOptions
	rng   *rand.Rand
	truth *SpanTruth
	w     *spoolWriter
	nodes [agents]agent
	spans int
	zip   *gzip.Writer
	out   bytes.Buffer

	pods [][]pod // by service

	// Of the trace at hand.
	id     pcommon.TraceID
	number uint32 // among the facts
	user   string
	budget int
}

// pod is one instance of a service; its spans go to one agent.
type pod struct {
	agent int
	fill  func(pcommon.Map)
}

// agent gathers spans by pod and scope until it has a batch.
type agent struct {
	traces ptrace.Traces
	spans  int
	want   int
	places map[place]ptrace.SpanSlice

	resources map[place]ptrace.ResourceSpans // by places without a scope
}

type place struct {
	service, pod int
	scope        string
}

// WriteSpanSpool generates spans of about twenty services into a file at path:
// trees of 5 to 60 spans, 16 resource attributes on 200 pods, and the attributes
// of the semantic conventions.
func WriteSpanSpool(path string, o SpanOptions) (*Spool, *SpanTruth, error) {
	if o.Spans < 1 || o.Duration <= 0 {
		return nil, nil, fmt.Errorf("write spool: %d spans over %s, want at least 1 and more than 0", o.Spans, o.Duration)
	}
	w, err := newSpoolWriter(path, Options{Scrapes: 1, Seed: o.Seed})
	if err != nil {
		return nil, nil, err
	}
	g := &spanGen{
		o: o, rng: rand.New(rand.NewPCG(o.Seed, 1)), w: w,
		truth: &SpanTruth{SpanFacts: NewSpanFacts(), Words: map[string]int64{}, First: math.MaxInt64},
		zip:   gzip.NewWriter(nil),
	}
	g.makePods()
	for i := range g.nodes {
		g.resetAgent(&g.nodes[i])
	}
	spool, err := g.w.finish(func(int) error { return g.run() })
	return spool, g.truth, err
}

func (g *spanGen) run() error {
	const mean = 25.8
	step := float64(g.o.Duration) * mean / float64(g.o.Spans)
	at := float64(g.o.EndNanos - int64(g.o.Duration))
	for g.spans < g.o.Spans {
		at += g.rng.ExpFloat64() * step
		if err := g.trace(min(int64(at), g.o.EndNanos)); err != nil {
			return err
		}
	}
	for i := range g.nodes {
		if err := g.flush(&g.nodes[i]); err != nil {
			return err
		}
	}
	return nil
}

// trace makes one trace that starts at the given time.
func (g *spanGen) trace(start int64) error {
	for i := range g.id {
		g.id[i] = byte(g.rng.Uint32())
	}
	user := int(float64(users) * math.Pow(g.rng.Float64(), 1.5))
	g.user = UserID(user)
	// From 5 to 60 spans, 25.8 on average.
	g.budget = 5 + int(56*math.Pow(g.rng.Float64(), 1.69))
	g.number = g.truth.Trace(TraceID(g.id))
	service := g.rng.IntN(2) // the frontend or the gateway
	g.truth.SetRoot(g.number, SpanServices[service], user)
	g.server(service, g.operation(service), pcommon.SpanID{}, start, g.latency(120e6), true)
	for i := range g.nodes {
		if a := &g.nodes[i]; a.spans >= a.want {
			if err := g.flush(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// latency is a duration around a median, with a long tail.
func (g *spanGen) latency(median float64) int64 {
	return int64(median * math.Exp(g.rng.NormFloat64()*0.7))
}

func (g *spanGen) operation(service int) int { return int(6 * g.rng.Float64() * g.rng.Float64()) }

// begin adds a span of a service. The caller names it and adds attributes.
func (g *spanGen) begin(service int, scope, name string, parent pcommon.SpanID, start, duration int64) ptrace.Span {
	p := int(g.rng.Uint64() % podsPerService)
	if g.id[15]%4 != 0 { // most of a trace's calls stay within a zone
		p = int(g.id[0]) % podsPerService
	}
	a := &g.nodes[g.pods[service][p].agent]
	at := place{service, p, scope}
	spans, ok := a.places[at]
	if !ok {
		resource := place{service: service, pod: p}
		rs, ok := a.resources[resource]
		if !ok {
			rs = a.traces.ResourceSpans().AppendEmpty()
			rs.SetSchemaUrl("https://opentelemetry.io/schemas/1.37.0")
			g.pods[service][p].fill(rs.Resource().Attributes())
			a.resources[resource] = rs
		}
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName(scope)
		ss.Scope().SetVersion("0.62.0")
		spans = ss.Spans()
		a.places[at] = spans
	}
	s := spans.AppendEmpty()
	var id pcommon.SpanID
	for i := range id {
		id[i] = byte(g.rng.Uint32())
	}
	s.SetName(name)
	s.SetTraceID(g.id)
	s.SetSpanID(id)
	s.SetParentSpanID(parent)
	s.SetFlags(0x101)
	s.SetStartTimestamp(pcommon.Timestamp(start))
	s.SetEndTimestamp(pcommon.Timestamp(start + duration))
	a.spans++
	g.spans++
	g.budget--
	g.truth.Span(g.number, SpanServices[service], name, start, duration)
	g.truth.First, g.truth.Last = min(g.truth.First, start), max(g.truth.Last, start)
	return s
}

// fail makes one span in a hundred an error with a stack trace.
func (g *spanGen) fail(s ptrace.Span, end int64) bool {
	if g.rng.IntN(100) != 0 {
		return false
	}
	g.truth.Fail()
	what := exceptions[g.rng.IntN(len(exceptions))]
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Status().SetMessage(what + " while calling upstream")
	e := s.Events().AppendEmpty()
	e.SetName("exception")
	e.SetTimestamp(pcommon.Timestamp(end - 1000))
	e.Attributes().PutStr("exception.type", what)
	e.Attributes().PutStr("exception.message", fmt.Sprintf("%s: request %x timed out after %d ms", what, g.id[:4], g.rng.IntN(3000)))
	e.Attributes().PutStr("exception.stacktrace", g.stack(what))
	return true
}

// server adds a server span and what happens within it.
func (g *spanGen) server(service, op int, parent pcommon.SpanID, start, duration int64, root bool) {
	name := SpanServices[service]
	http := service < 2 || service%3 == 0
	title := fmt.Sprintf("shop.%s.v1.Service/%s", name, verbs[op])
	scope := "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	if http {
		scope = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
		title = fmt.Sprintf("%s /api/v1/%s/{id}/%s", methods[op], name, verbs[op])
	}
	s := g.begin(service, scope, title, parent, start, duration)
	s.SetKind(ptrace.SpanKindServer)
	failed := g.fail(s, start+duration)
	m := s.Attributes()
	if http {
		status := int64(200)
		if failed {
			status = 500
		} else if g.rng.IntN(50) == 0 {
			status = 404
		}
		m.PutStr("http.request.method", methods[op])
		m.PutStr("http.route", title[len(methods[op])+1:])
		m.PutStr("url.path", fmt.Sprintf("/api/v1/%s/%d/%s", name, g.rng.IntN(5000), verbs[op]))
		m.PutInt("http.response.status_code", status)
		m.PutStr("network.protocol.version", "1.1")
		m.PutStr("server.address", name+".shop.svc.cluster.local")
		m.PutStr("client.address", fmt.Sprintf("10.42.%d.%d", g.rng.IntN(20), g.rng.IntN(250)))
		m.PutInt("network.peer.port", int64(32768+g.rng.IntN(28000)))
		m.PutInt("http.response.body.size", int64(g.rng.ExpFloat64()*4000))
		m.PutStr("user_agent.original", agentsOfUsers[g.rng.IntN(len(agentsOfUsers))])
	} else {
		code := int64(0)
		if failed {
			code = 4
		}
		m.PutStr("rpc.system", "grpc")
		m.PutStr("rpc.service", "shop."+name+".v1.Service")
		m.PutStr("rpc.method", verbs[op])
		m.PutInt("rpc.grpc.status_code", code)
		m.PutStr("network.peer.address", fmt.Sprintf("10.42.%d.%d", g.rng.IntN(20), g.rng.IntN(250)))
		m.PutInt("network.peer.port", int64(32768+g.rng.IntN(28000)))
	}
	if root || service%4 == 1 {
		m.PutStr("user.id", g.user)
		m.PutBool("user.premium", g.user[len(g.user)-1] == '7')
	}
	// What it does, one after another, within its time.
	at, end, id := start+duration/20, start+duration, s.SpanID()
	for calls := 1 + g.rng.IntN(5); calls > 0 && g.budget > 0 && at < end; calls-- {
		part := min(g.latency(float64(duration)/6), end-at)
		switch k := g.rng.IntN(10); {
		case k < 4 && g.budget > 1:
			g.call(service, id, at, part)
		case k < 7:
			g.database(service, id, at, part)
		case k < 8:
			g.message(service, id, at, part)
		default:
			g.internal(service, id, at, part)
		}
		at += part + duration/50
	}
	if root { // up to the size that the trace is to have
		for g.budget > 0 {
			if at >= end {
				at = start + duration/20
			}
			part := max(min(g.latency(float64(duration)/8), end-at), 1000)
			if g.budget > 1 && g.rng.IntN(2) == 0 {
				g.call(service, id, at, part)
			} else {
				g.database(service, id, at, part)
			}
			at += part
		}
	}
}

// call adds a client span and the server span at its other end.
func (g *spanGen) call(service int, parent pcommon.SpanID, start, duration int64) {
	to := (service*7 + 2 + g.rng.IntN(6)) % len(SpanServices)
	op := g.operation(to)
	s := g.begin(service, "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", methods[op], parent, start, duration)
	s.SetKind(ptrace.SpanKindClient)
	failed := g.fail(s, start+duration)
	m := s.Attributes()
	m.PutStr("http.request.method", methods[op])
	m.PutStr("url.full", fmt.Sprintf("http://%s.shop.svc.cluster.local:8080/api/v1/%s/%d/%s", SpanServices[to], SpanServices[to], g.rng.IntN(5000), verbs[op]))
	m.PutStr("server.address", SpanServices[to]+".shop.svc.cluster.local")
	m.PutInt("server.port", 8080)
	status := int64(200)
	if failed {
		status = 503
	}
	m.PutInt("http.response.status_code", status)
	m.PutInt("http.response.body.size", int64(g.rng.ExpFloat64()*4000))
	network := duration / 10
	g.server(to, op, s.SpanID(), start+network/2, duration-network, false)
}

func (g *spanGen) database(service int, parent pcommon.SpanID, start, duration int64) {
	q := queries[(service*5+int(float64(len(queries))*g.rng.Float64()*g.rng.Float64()))%len(queries)]
	s := g.begin(service, "go.nhat.io/otelsql", q.operation+" "+q.table, parent, start, duration)
	s.SetKind(ptrace.SpanKindClient)
	g.fail(s, start+duration)
	m := s.Attributes()
	m.PutStr("db.system.name", "postgresql")
	m.PutStr("db.namespace", "shop_"+SpanServices[service])
	m.PutStr("db.operation.name", q.operation)
	m.PutStr("db.collection.name", q.table)
	m.PutStr("db.query.text", q.text)
	for _, table := range q.tables {
		g.truth.Words[table]++
	}
	m.PutStr("server.address", fmt.Sprintf("pg-%d.db.internal", service%4))
	m.PutInt("server.port", 5432)
	m.PutStr("network.peer.address", fmt.Sprintf("10.44.0.%d", service%4))
	m.PutInt("db.response.returned_rows", int64(g.rng.ExpFloat64()*20))
}

func (g *spanGen) message(service int, parent pcommon.SpanID, start, duration int64) {
	topic := SpanServices[service] + ".events"
	s := g.begin(service, "github.com/dnwe/otelsarama", "send "+topic, parent, start, duration)
	s.SetKind(ptrace.SpanKindProducer)
	m := s.Attributes()
	m.PutStr("messaging.system", "kafka")
	m.PutStr("messaging.destination.name", topic)
	m.PutStr("messaging.operation.type", "send")
	m.PutInt("messaging.destination.partition.id", int64(g.rng.IntN(12)))
	m.PutInt("messaging.kafka.offset", int64(g.spans)*3+int64(g.rng.IntN(100)))
}

func (g *spanGen) internal(service int, parent pcommon.SpanID, start, duration int64) {
	f := functions[g.rng.IntN(len(functions))]
	s := g.begin(service, "github.com/shop/"+SpanServices[service], f, parent, start, duration)
	s.SetKind(ptrace.SpanKindInternal)
	m := s.Attributes()
	m.PutStr("code.function.name", "github.com/shop/"+SpanServices[service]+"."+f)
	m.PutInt("code.line.number", int64(100+len(f)*7))
	m.PutInt("thread.id", int64(g.rng.IntN(64)))
	m.PutInt("app.items", int64(g.rng.IntN(30)))
	m.PutDouble("app.score", math.Round(g.rng.Float64()*1e4)/1e4)
}

func (g *spanGen) stack(what string) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n", what)
	for range 8 {
		f := functions[g.rng.IntN(len(functions))]
		fmt.Fprintf(&b, "\tat com.shop.%s.%s(%s.java:%d)\n", SpanServices[g.rng.IntN(len(SpanServices))], f, f, g.rng.IntN(400))
	}
	return b.String()
}

func (g *spanGen) makePods() {
	g.pods = make([][]pod, len(SpanServices))
	for service, name := range SpanServices {
		for p := range podsPerService {
			hash, suffix, uid := g.rng.Uint32(), g.rng.Uint32()%100_000, g.rng.Uint64()
			node := (service + p) % agents
			podName := fmt.Sprintf("%s-%08x-%05d", name, hash, suffix)
			pid := int64(1 + g.rng.IntN(40))
			version := fmt.Sprintf("1.%d.%d", service, p%2)
			g.pods[service] = append(g.pods[service], pod{node, func(m pcommon.Map) {
				m.PutStr("service.name", name)
				m.PutStr("service.namespace", "shop")
				m.PutStr("service.version", version)
				m.PutStr("service.instance.id", fmt.Sprintf("%016x", uid))
				m.PutStr("deployment.environment.name", "production")
				m.PutStr("host.name", fmt.Sprintf("node-%d", node))
				m.PutStr("host.arch", "amd64")
				m.PutStr("os.type", "linux")
				m.PutInt("process.pid", pid)
				m.PutStr("process.runtime.name", "go")
				m.PutStr("process.runtime.version", "go1.26.8")
				m.PutStr("telemetry.sdk.name", "opentelemetry")
				m.PutStr("telemetry.sdk.language", "go")
				m.PutStr("telemetry.sdk.version", "1.47.0")
				m.PutStr("k8s.namespace.name", "shop")
				m.PutStr("k8s.pod.name", podName)
			}})
		}
	}
}

func (g *spanGen) resetAgent(a *agent) {
	*a = agent{traces: ptrace.NewTraces(), want: minBatch + g.rng.IntN(maxBatch-minBatch), places: map[place]ptrace.SpanSlice{}, resources: map[place]ptrace.ResourceSpans{}}
}

// flush writes an agent's spans as a request.
func (g *spanGen) flush(a *agent) error {
	if a.spans == 0 {
		return nil
	}
	raw, err := ptraceotlp.NewExportRequestFromTraces(a.traces).MarshalProto()
	if err != nil {
		return err
	}
	g.truth.Bytes += int64(len(raw))
	r := Request{Samples: a.spans, Raw: len(raw), Plain: g.spans >= g.o.PlainFrom}
	g.resetAgent(a)
	if r.Plain {
		return g.w.write(raw, r)
	}
	g.out.Reset()
	g.zip.Reset(&g.out)
	if _, err := g.zip.Write(raw); err != nil {
		return err
	}
	if err := g.zip.Close(); err != nil {
		return err
	}
	return g.w.write(g.out.Bytes(), r)
}

var (
	methods = []string{"GET", "GET", "POST", "GET", "PUT", "DELETE"}
	verbs   = []string{"Get", "List", "Create", "Search", "Update", "Delete"}

	exceptions = []string{
		"java.net.SocketTimeoutException", "java.lang.NullPointerException", "io.grpc.StatusRuntimeException",
		"java.util.concurrent.TimeoutException", "org.postgresql.util.PSQLException", "context.DeadlineExceeded",
	}
	functions = []string{
		"validateRequest", "loadSession", "applyDiscounts", "renderTemplate", "serialize", "checkQuota", "computeTax", "rankResults",
		"mergeCarts", "encodeImage", "resolveLocale", "auditTrail", "hashPassword", "expandFacets", "scoreFraud", "reserveStock",
	}
	agentsOfUsers = []string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
		"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
		"Go-http-client/2.0", "okhttp/4.12.0", "python-requests/2.32.5", "curl/8.14.1",
	}
	queries = makeQueries()
)

type query struct {
	operation, table, text string
	tables                 []string // all of them in text
}

func makeQueries() []query {
	tables := []string{"orders", "order_items", "customers", "products", "stock", "payments", "sessions", "reviews", "prices", "shipments"}
	var all []query
	for i, t := range tables {
		next := tables[(i+3)%len(tables)]
		one, both := []string{t}, []string{t, next}
		all = append(all,
			query{"SELECT", t, fmt.Sprintf("SELECT id, created_at, updated_at, status FROM %s WHERE id = $1", t), one},
			query{"SELECT", t, fmt.Sprintf("SELECT a.id, a.status, b.total FROM %s a JOIN %s b ON b.%s_id = a.id WHERE a.customer_id = $1 ORDER BY a.created_at DESC LIMIT 50", t, next, t), both},
			query{"INSERT", t, fmt.Sprintf("INSERT INTO %s (id, customer_id, status, payload, created_at) VALUES ($1, $2, $3, $4, now()) RETURNING id", t), one},
			query{"UPDATE", t, fmt.Sprintf("UPDATE %s SET status = $2, updated_at = now() WHERE id = $1 AND version = $3", t), one},
			query{"DELETE", t, fmt.Sprintf("DELETE FROM %s WHERE expires_at < now() - interval '30 days' AND status = 'done'", t), one},
		)
	}
	return all
}
