package traceql

import "strings"

// Scope says what an attribute belongs to.
type Scope uint8

// Scopes. An attribute without one is looked for in the span, then its resource,
// its events, its links and its instrumentation: the first that has it decides.
const (
	ScopeNone Scope = iota
	ScopeSpan
	ScopeResource
	ScopeEvent
	ScopeLink
	ScopeInstrumentation
	ScopeTrace // of intrinsics only
	numScopes
)

var scopeText = [numScopes]string{"", "span", "resource", "event", "link", "instrumentation", "trace"}

// String returns the scope as a query writes it; empty for ScopeNone.
func (s Scope) String() string { return scopeText[s] }

// ParseScope returns the scope with a name.
func ParseScope(name string) (Scope, bool) {
	for i, s := range scopeText {
		if s == name && i > 0 {
			return Scope(i), true
		}
	}
	return ScopeNone, false
}

// Intrinsic is a value that every span, event, link or trace has.
type Intrinsic uint8

// Intrinsics.
const (
	IntrinsicNone Intrinsic = iota
	IntrinsicName
	IntrinsicKind
	IntrinsicStatus
	IntrinsicStatusMessage
	IntrinsicDuration
	IntrinsicSpanID
	IntrinsicParentID // also parent
	IntrinsicChildCount
	IntrinsicNestedSetLeft
	IntrinsicNestedSetRight
	IntrinsicNestedSetParent
	IntrinsicTraceID
	IntrinsicTraceDuration
	IntrinsicRootName
	IntrinsicRootService
	IntrinsicEventName
	IntrinsicEventTimeSinceStart
	IntrinsicLinkTraceID
	IntrinsicLinkSpanID
	IntrinsicInstrumentationName
	IntrinsicInstrumentationVersion
	NumIntrinsics
)

// IntrinsicInfo describes an intrinsic.
type IntrinsicInfo struct {
	Intrinsic Intrinsic
	Scope     Scope
	Scoped    string // name after the scope and a colon; empty if there is no such form
	Plain     string // name without scope; empty if there is no such form
	Type      StaticType
}

var intrinsics = [NumIntrinsics]IntrinsicInfo{
	IntrinsicName:                   {Scope: ScopeSpan, Scoped: "name", Plain: "name", Type: TypeString},
	IntrinsicKind:                   {Scope: ScopeSpan, Scoped: "kind", Plain: "kind", Type: TypeKind},
	IntrinsicStatus:                 {Scope: ScopeSpan, Scoped: "status", Plain: "status", Type: TypeStatus},
	IntrinsicStatusMessage:          {Scope: ScopeSpan, Scoped: "statusMessage", Plain: "statusMessage", Type: TypeString},
	IntrinsicDuration:               {Scope: ScopeSpan, Scoped: "duration", Plain: "duration", Type: TypeDuration},
	IntrinsicSpanID:                 {Scope: ScopeSpan, Scoped: "id", Type: TypeString},
	IntrinsicParentID:               {Scope: ScopeSpan, Scoped: "parentID", Plain: "parent", Type: TypeString},
	IntrinsicChildCount:             {Scope: ScopeSpan, Scoped: "childCount", Plain: "childCount", Type: TypeInt},
	IntrinsicNestedSetLeft:          {Scope: ScopeSpan, Plain: "nestedSetLeft", Type: TypeInt},
	IntrinsicNestedSetRight:         {Scope: ScopeSpan, Plain: "nestedSetRight", Type: TypeInt},
	IntrinsicNestedSetParent:        {Scope: ScopeSpan, Plain: "nestedSetParent", Type: TypeInt},
	IntrinsicTraceID:                {Scope: ScopeTrace, Scoped: "id", Type: TypeString},
	IntrinsicTraceDuration:          {Scope: ScopeTrace, Scoped: "duration", Plain: "traceDuration", Type: TypeDuration},
	IntrinsicRootName:               {Scope: ScopeTrace, Scoped: "rootName", Plain: "rootName", Type: TypeString},
	IntrinsicRootService:            {Scope: ScopeTrace, Scoped: "rootService", Plain: "rootServiceName", Type: TypeString},
	IntrinsicEventName:              {Scope: ScopeEvent, Scoped: "name", Type: TypeString},
	IntrinsicEventTimeSinceStart:    {Scope: ScopeEvent, Scoped: "timeSinceStart", Type: TypeDuration},
	IntrinsicLinkTraceID:            {Scope: ScopeLink, Scoped: "traceID", Type: TypeString},
	IntrinsicLinkSpanID:             {Scope: ScopeLink, Scoped: "spanID", Type: TypeString},
	IntrinsicInstrumentationName:    {Scope: ScopeInstrumentation, Scoped: "name", Type: TypeString},
	IntrinsicInstrumentationVersion: {Scope: ScopeInstrumentation, Scoped: "version", Type: TypeString},
}

// Info describes i.
func (i Intrinsic) Info() IntrinsicInfo {
	info := intrinsics[i]
	info.Intrinsic = i
	return info
}

// OfTrace reports whether all spans of a trace have the same value.
func (i Intrinsic) OfTrace() bool { return i.Info().Scope == ScopeTrace }

// NeedsTree reports whether the value depends on other spans of the trace.
func (i Intrinsic) NeedsTree() bool {
	return i >= IntrinsicChildCount && i <= IntrinsicNestedSetParent ||
		i >= IntrinsicTraceDuration && i <= IntrinsicRootService
}

func findIntrinsic(scope Scope, name string) (Intrinsic, bool) {
	for i := IntrinsicNone + 1; i < NumIntrinsics; i++ {
		info := &intrinsics[i]
		if scope == ScopeNone && info.Plain == name ||
			scope != ScopeNone && info.Scope == scope && info.Scoped == name && name != "" {
			return i, true
		}
	}
	return IntrinsicNone, false
}

// Attribute names an attribute or an intrinsic. It can be compared and be a key
// of a map.
type Attribute struct {
	// Intrinsic is IntrinsicNone for an attribute.
	Intrinsic Intrinsic

	// Scope of an attribute; of an intrinsic that is written with its scope.
	Scope Scope

	// Parent takes the value of the span's parent: parent.…
	Parent bool

	// Name of an attribute, without quotes; empty for an intrinsic.
	Name string
}

// ParseAttribute reads one attribute or intrinsic as a query writes it.
func ParseAttribute(text string) (Attribute, error) {
	p, err := newParser(text)
	if err != nil {
		return Attribute{}, err
	}
	f, err := p.field()
	if err != nil {
		return Attribute{}, err
	}
	if p.tok.kind != tokEnd {
		return Attribute{}, p.unexpected("the end")
	}
	return f.Attribute, nil
}

// ShortName returns the name as a query writes it without scope: service.name,
// status.
func (a Attribute) ShortName() string {
	if a.Intrinsic == IntrinsicNone {
		return a.Name
	}
	info := a.Intrinsic.Info()
	if a.Scope != ScopeNone || info.Plain == "" {
		return info.Scoped
	}
	return info.Plain
}

// String returns the attribute as a query writes it: span.http.method, .a,
// duration, trace:id, span."two words".
func (a Attribute) String() string {
	if a.Intrinsic != IntrinsicNone {
		info := a.Intrinsic.Info()
		if a.Scope == ScopeNone && info.Plain != "" {
			return info.Plain
		}
		return info.Scope.String() + ":" + info.Scoped
	}
	var b strings.Builder
	if a.Parent {
		b.WriteString("parent.")
	}
	if a.Scope != ScopeNone {
		b.WriteString(a.Scope.String())
	}
	if a.Scope != ScopeNone || !a.Parent {
		b.WriteByte('.')
	}
	if a.needsQuotes() {
		b.WriteByte('"')
		for _, r := range a.Name {
			if r == '"' || r == '\\' {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		b.WriteByte('"')
	} else {
		b.WriteString(a.Name)
	}
	return b.String()
}

func (a Attribute) needsQuotes() bool {
	for _, r := range a.Name {
		if !isNameRune(r) {
			return true
		}
	}
	if a.Scope == ScopeNone && a.Name != "" && isDigit(a.Name[0]) {
		return true // .5 is a number
	}
	if a.Parent && a.Scope == ScopeNone {
		scope, _, dotted := strings.Cut(a.Name, ".")
		_, is := ParseScope(scope)
		return dotted && is
	}
	return false
}
