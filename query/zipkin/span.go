package zipkin

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
)

// Attributes that stand for what is no tag; ingest/zipkin writes them. Those that
// are no strings there cannot be mistaken for tags, which always are.
const (
	attrService = "service.name" // of the resource, as the next two

	attrLocalAddress = "network.local.address"
	attrLocalIPv6    = "zipkin.local.ipv6"
	attrLocalPort    = "network.local.port"

	attrPeerService = "peer.service"
	attrPeerAddress = "network.peer.address"
	attrPeerIPv6    = "zipkin.remote.ipv6"
	attrPeerPort    = "network.peer.port"

	attrRemoteService = "zipkin.remote.service_name"
	attrRemoteAddress = "zipkin.remote.address"
	attrRemotePort    = "zipkin.remote.port"

	attrShared  = "zipkin.shared"
	attrDebug   = "zipkin.debug"
	attrNoStart = "otel.zipkin.absentField.startTime"
)

// Tags that stand for what are fields of a span here.
const (
	tagError        = "error"
	tagStatusCode   = "otel.status_code"
	tagStatusText   = "otel.status_description"
	tagScopeName    = "otel.scope.name"
	tagScopeVersion = "otel.scope.version"
	tagTraceState   = "w3c.tracestate"
)

var kinds = [...]string{
	traceapi.KindServer: "SERVER", traceapi.KindClient: "CLIENT", traceapi.KindProducer: "PRODUCER", traceapi.KindConsumer: "CONSUMER",
}

// traceIDText returns an id as Zipkin writes it: 16 digits if the rest is 0.
func traceIDText(id signal.TraceID) string {
	if binary.BigEndian.Uint64(id[:8]) == 0 {
		return hex.EncodeToString(id[8:])
	}
	return hex.EncodeToString(id[:])
}

// endpoint is a node of the network.
type endpoint struct {
	service    string
	ipv4, ipv6 netip.Addr
	port       uint16
}

// setIP reports whether text is an address.
func (e *endpoint) setIP(text string) bool {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	if a = a.Unmap(); a.Is4() {
		e.ipv4 = a
	} else {
		e.ipv6 = a
	}
	return true
}

func (e *endpoint) append(dst []byte) []byte {
	dst = append(dst, '{')
	if e.service != "" {
		dst = appendString(dst, "serviceName", e.service)
	}
	if e.ipv4.IsValid() {
		dst = appendString(dst, "ipv4", e.ipv4.String())
	}
	if e.ipv6.IsValid() {
		dst = appendString(dst, "ipv6", e.ipv6.String())
	}
	if e.port != 0 {
		dst = appendInt(dst, "port", int64(e.port))
	}
	return append(dst, '}')
}

// appendKey appends a field's name, after a comma unless it is the first one.
func appendKey(dst []byte, key string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, key...)
	return append(dst, '"', ':')
}

func appendString(dst []byte, key, value string) []byte {
	return traceapi.AppendJSONString(appendKey(dst, key), value)
}

func appendInt(dst []byte, key string, n int64) []byte {
	return strconv.AppendInt(appendKey(dst, key), n, 10)
}

// appendSpans appends the spans of a trace as an array.
func appendSpans(dst []byte, s *signal.Spans) []byte {
	e := encoder{Spans: s, scope: -1}
	dst = append(dst, '[')
	for i := range s.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.appendSpan(dst, i)
	}
	return append(dst, ']')
}

// tagSet are the tags of a span in the order in which they came: a later one of
// the same name takes the place of the earlier.
type tagSet struct {
	keys, values []string
	at           map[string]int
}

func (t *tagSet) reset() {
	t.keys, t.values = t.keys[:0], t.values[:0]
	if t.at == nil {
		t.at = make(map[string]int)
	}
	clear(t.at)
}

func (t *tagSet) set(key, value string) {
	if i, ok := t.at[key]; ok {
		t.values[i] = value
		return
	}
	t.at[key] = len(t.keys)
	t.keys, t.values = append(t.keys, key), append(t.values, value)
}

func (t *tagSet) get(key string) (string, bool) {
	i, ok := t.at[key]
	if !ok {
		return "", false
	}
	return t.values[i], true
}

// setMissing sets a tag unless there is one of that name.
func (t *tagSet) setMissing(key, value string) {
	if _, ok := t.at[key]; !ok {
		t.set(key, value)
	}
}

// remove takes out the tags of some names.
func (t *tagSet) remove(keys ...string) {
	n := 0
	for i, key := range t.keys {
		if slices.Contains(keys, key) {
			delete(t.at, key)
			continue
		}
		t.keys[n], t.values[n], t.at[key] = key, t.values[i], n
		n++
	}
	t.keys, t.values = t.keys[:n], t.values[:n]
}

func (t *tagSet) append(dst []byte) []byte {
	dst = append(dst, '{')
	for i, key := range t.keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = traceapi.AppendJSONString(dst, key)
		dst = append(dst, ':')
		dst = traceapi.AppendJSONString(dst, t.values[i])
	}
	return append(dst, '}')
}

// encoder writes spans as Zipkin's.
type encoder struct {
	*signal.Spans

	scope  int         // whose spans are being written
	local  endpoint    // of the scope's resource
	shared [][2]string // tags of the resource and the scope

	tags tagSet // of the span
}

// enter prepares for the spans of a scope.
func (e *encoder) enter(scope uint32) {
	if e.scope == int(scope) {
		return
	}
	e.scope, e.local, e.shared = int(scope), endpoint{}, e.shared[:0]
	for _, a := range traceapi.ResourceAttrs(e.Spans, e.Scopes[scope].Resource) {
		text := string(traceapi.AppendText(nil, e.Spans, a))
		switch key := string(e.Bytes(a.Key)); {
		case key == attrService:
			e.local.service = text
		case (key == attrLocalAddress || key == attrLocalIPv6) && e.local.setIP(text):
		default:
			e.shared = append(e.shared, [2]string{key, text})
		}
	}
	for _, a := range traceapi.ScopeAttrs(e.Spans, scope) {
		e.shared = append(e.shared, [2]string{string(e.Bytes(a.Key)), string(traceapi.AppendText(nil, e.Spans, a))})
	}
	c := &e.Scopes[scope]
	if c.Name.Len > 0 {
		e.shared = append(e.shared, [2]string{tagScopeName, string(e.Bytes(c.Name))})
	}
	if c.Version.Len > 0 {
		e.shared = append(e.shared, [2]string{tagScopeVersion, string(e.Bytes(c.Version))})
	}
}

// flags are what a span says beside its tags.
type flags struct{ shared, debug, noStart bool }

func (e *encoder) appendSpan(dst []byte, i int) []byte {
	e.enter(e.Scope[i])
	local, remote, f := e.readAttrs(i)
	dst = append(dst, `{"traceId":"`...)
	dst = append(dst, traceIDText(e.TraceIDs[i])...)
	dst = append(dst, '"')
	if !e.Parents[i].IsZero() {
		dst = appendString(dst, "parentId", traceapi.SpanIDHex(e.Parents[i]))
	}
	dst = appendString(dst, "id", traceapi.SpanIDHex(e.SpanIDs[i]))
	if k := int(e.Kinds[i]); k < len(kinds) && kinds[k] != "" {
		dst = appendString(dst, "kind", kinds[k])
	}
	if e.Names[i].Len > 0 {
		dst = traceapi.AppendJSONString(appendKey(dst, "name"), e.Bytes(e.Names[i]))
	}
	if start := e.Starts[i] / 1000; start > 0 && !f.noStart {
		dst = appendInt(dst, "timestamp", start)
	}
	if d := e.Duration(i); d > 0 {
		dst = appendInt(dst, "duration", max(d/1000, 1))
	}
	if local != (endpoint{}) {
		dst = local.append(appendKey(dst, "localEndpoint"))
	}
	if remote != (endpoint{}) {
		dst = remote.append(appendKey(dst, "remoteEndpoint"))
	}
	dst = e.appendAnnotations(dst, i)
	if len(e.tags.keys) > 0 {
		dst = e.tags.append(appendKey(dst, "tags"))
	}
	if f.debug {
		dst = append(appendKey(dst, "debug"), "true"...)
	}
	if f.shared {
		dst = append(appendKey(dst, "shared"), "true"...)
	}
	return append(dst, '}')
}

// readAttrs reads the attributes of span i into endpoints, flags and e.tags.
func (e *encoder) readAttrs(i int) (local, remote endpoint, f flags) {
	local = e.local
	e.tags.reset()
	for _, t := range e.shared {
		e.tags.set(t[0], t[1])
	}
	for _, a := range e.SpanAttrs(i) {
		key := string(e.Bytes(a.Key))
		if isPort := a.Type == signal.AttrInt && a.Int() > 0 && a.Int() <= 0xffff; isPort {
			switch key {
			case attrLocalPort:
				local.port = uint16(a.Int())
				continue
			case attrPeerPort, attrRemotePort:
				remote.port = uint16(a.Int())
				continue
			}
		}
		if a.Type == signal.AttrBool && a.Bool() {
			switch key {
			case attrShared:
				f.shared = true
				continue
			case attrDebug:
				f.debug = true
				continue
			case attrNoStart:
				f.noStart = true
				continue
			}
		}
		e.tags.set(key, string(traceapi.AppendText(nil, e.Spans, a)))
	}
	e.readRemote(&remote)
	e.addStatus(i)
	e.addLinks(i)
	if e.States[i].Len > 0 {
		e.tags.setMissing(tagTraceState, string(e.Bytes(e.States[i])))
	}
	if e.Kinds[i] == traceapi.KindInternal {
		e.tags.setMissing("span.kind", "internal")
	}
	return local, remote, f
}

// readRemote moves what names the remote endpoint from the tags to remote.
func (e *encoder) readRemote(remote *endpoint) {
	for _, key := range remoteServiceKeys {
		if text, ok := e.tags.get(key); ok {
			remote.service = text
			e.tags.remove(key)
			break
		}
	}
	for _, key := range [...]string{attrRemoteAddress, attrPeerAddress} {
		if text, ok := e.tags.get(key); ok && remote.setIP(text) {
			e.tags.remove(key)
			break
		}
	}
	if text, ok := e.tags.get(attrPeerIPv6); ok && remote.setIP(text) {
		e.tags.remove(attrPeerIPv6)
	}
}

// addStatus adds tags for a span's status, unless tags say it already.
func (e *encoder) addStatus(i int) {
	_, hasError := e.tags.get(tagError)
	_, hasCode := e.tags.get(tagStatusCode)
	if hasError || hasCode || e.Statuses[i] == 0 {
		return
	}
	message := string(e.Bytes(e.Messages[i]))
	if e.Statuses[i] != traceapi.StatusError {
		e.tags.set(tagStatusCode, "OK")
		return
	}
	e.tags.set(tagStatusCode, "ERROR")
	e.tags.set(tagError, cmp.Or(message, "true"))
	if message != "" {
		e.tags.set(tagStatusText, message)
	}
}

// addLinks adds a tag for every link, as the OpenTelemetry Collector writes it.
func (e *encoder) addLinks(i int) {
	for j, l := range e.Links[e.LinkBegin[i]:e.LinkEnd[i]] {
		var b []byte
		b = hex.AppendEncode(b, l.TraceID[:])
		b = hex.AppendEncode(append(b, '|'), l.SpanID[:])
		b = append(append(b, '|'), e.Bytes(l.State)...)
		b = e.appendObject(append(b, '|'), e.Attrs[l.AttrBegin:l.AttrEnd])
		b = strconv.AppendUint(append(b, '|'), uint64(l.DroppedAttrs), 10)
		e.tags.set("otlp.link."+strconv.Itoa(j), string(b))
	}
}

// appendObject appends attributes as a JSON object.
func (e *encoder) appendObject(dst []byte, attrs []signal.Attr) []byte {
	dst = append(dst, '{')
	for i, a := range attrs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = traceapi.AppendJSONString(dst, e.Bytes(a.Key))
		dst = append(dst, ':')
		text := traceapi.AppendText(nil, e.Spans, a)
		switch a.Type {
		case signal.AttrBool, signal.AttrInt, signal.AttrArray, signal.AttrMap:
			dst = append(dst, text...)
		case signal.AttrDouble:
			dst = traceapi.AppendJSONDouble(dst, a.Double())
		default:
			dst = traceapi.AppendJSONString(dst, text)
		}
	}
	return append(dst, '}')
}

// appendAnnotations appends the events: their name, or with attributes, as
// OpenTelemetry has it, an object of the name and those.
func (e *encoder) appendAnnotations(dst []byte, i int) []byte {
	events := e.Events[e.EventBegin[i]:e.EventEnd[i]]
	if len(events) == 0 {
		return dst
	}
	dst = append(appendKey(dst, "annotations"), '[')
	for j, event := range events {
		if j > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"timestamp":`...)
		dst = strconv.AppendInt(dst, max(event.Time, 0)/1000, 10)
		dst = append(dst, `,"value":`...)
		if event.AttrBegin == event.AttrEnd {
			dst = traceapi.AppendJSONString(dst, e.Bytes(event.Name))
		} else {
			value := traceapi.AppendJSONString([]byte{'{'}, e.Bytes(event.Name))
			value = e.appendObject(append(value, ':'), e.Attrs[event.AttrBegin:event.AttrEnd])
			dst = traceapi.AppendJSONString(dst, append(value, '}'))
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}
