package tempo

import (
	"net/http"
	"slices"
	"strings"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// metadataMetrics is Tempo's MetadataMetrics.
type metadataMetrics struct {
	InspectedBytes int64 `json:"inspectedBytes,omitempty,string"`
	TotalJobs      int   `json:"totalJobs,omitempty"`
	CompletedJobs  int   `json:"completedJobs,omitempty"`
	TotalBlocks    int   `json:"totalBlocks,omitempty"`
}

func newMetadataMetrics(s traceql.Stats) metadataMetrics {
	m := newSearchMetrics(s)
	return metadataMetrics{
		InspectedBytes: m.InspectedBytes, TotalJobs: m.TotalJobs, CompletedJobs: m.CompletedJobs, TotalBlocks: m.TotalBlocks,
	}
}

func (m metadataMetrics) appendProto(dst []byte) []byte {
	dst = appendUint(dst, 1, uint64(m.InspectedBytes), false)
	dst = appendUint(dst, 2, uint64(m.TotalJobs), false)
	dst = appendUint(dst, 3, uint64(m.CompletedJobs), false)
	return appendUint(dst, 4, uint64(m.TotalBlocks), false)
}

// scopes are those that a client may ask for. "none" and "all" are all of them.
var scopes = map[string]string{
	"": "", "none": "", "all": "",
	"resource": "resource", "span": "span", "event": "event", "link": "link",
	"instrumentation": "instrumentation", "intrinsic": "intrinsic",
}

func (a *API) tags(w http.ResponseWriter, r *http.Request) (*traceql.TagsResult, error) {
	req, err := tagsRequest(r)
	if err != nil {
		return nil, err
	}
	name := r.URL.Query().Get("scope")
	scope, ok := scopes[name]
	if !ok {
		return nil, traceapi.BadRequest("invalid scope: %s", name)
	}
	req.Scope = scope
	found, err := a.Querier().Tags(r.Context(), req)
	if err != nil {
		return nil, err
	}
	traceapi.NotePartial(w, found.Stats.Partial)
	return found, nil
}

// tagsResponse is Tempo's SearchTagsResponse.
type tagsResponse struct {
	TagNames []string        `json:"tagNames"`
	Metrics  metadataMetrics `json:"metrics"`
}

func (t *tagsResponse) appendProto(dst []byte) []byte {
	for _, name := range t.TagNames {
		dst = appendBytes(dst, 1, name, true)
	}
	return appendMessage(dst, 2, t.Metrics.appendProto)
}

// tagsV1 answers with names of all scopes in one list; those of intrinsics only
// if they are asked for.
func (a *API) tagsV1(w http.ResponseWriter, r *http.Request) error {
	found, err := a.tags(w, r)
	if err != nil {
		return err
	}
	out := &tagsResponse{TagNames: []string{}, Metrics: newMetadataMetrics(found.Stats)}
	for _, s := range found.Scopes {
		if s.Name != "intrinsic" || r.URL.Query().Get("scope") == "intrinsic" {
			out.TagNames = append(out.TagNames, s.Tags...)
		}
	}
	slices.Sort(out.TagNames)
	out.TagNames = slices.Compact(out.TagNames)
	return respond(w, r, out)
}

// tagsV2Response is Tempo's SearchTagsV2Response.
type tagsV2Response struct {
	Scopes  []tagScope      `json:"scopes"`
	Metrics metadataMetrics `json:"metrics"`
}

type tagScope struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

func (t *tagsV2Response) appendProto(dst []byte) []byte {
	for _, s := range t.Scopes {
		dst = appendMessage(dst, 1, func(dst []byte) []byte {
			dst = appendBytes(dst, 1, s.Name, false)
			for _, name := range s.Tags {
				dst = appendBytes(dst, 2, name, true)
			}
			return dst
		})
	}
	return appendMessage(dst, 2, t.Metrics.appendProto)
}

func (a *API) tagsV2(w http.ResponseWriter, r *http.Request) error {
	found, err := a.tags(w, r)
	if err != nil {
		return err
	}
	out := &tagsV2Response{Scopes: []tagScope{}, Metrics: newMetadataMetrics(found.Stats)}
	for _, s := range found.Scopes {
		if len(s.Tags) > 0 {
			out.Scopes = append(out.Scopes, tagScope(s))
		}
	}
	return respond(w, r, out)
}

// values asks for the values of what the path names; asQuery turns that into
// TraceQL.
func (a *API) values(w http.ResponseWriter, r *http.Request, asQuery func(string) string) (*traceql.TagValuesResult, error) {
	name, ok := strings.CutSuffix(r.PathValue("rest"), "/values")
	if !ok || name == "" {
		return nil, traceapi.NotFound("404 page not found")
	}
	req, err := tagsRequest(r)
	if err != nil {
		return nil, err
	}
	req.Name = asQuery(name)
	if _, err := traceql.ParseAttribute(req.Name); err != nil {
		return nil, traceapi.BadRequest("invalid tag name: %w", err)
	}
	found, err := a.Querier().TagValues(r.Context(), req)
	if err != nil {
		return nil, err
	}
	traceapi.NotePartial(w, found.Stats.Partial)
	return found, nil
}

// tagValuesResponse is Tempo's SearchTagValuesResponse.
type tagValuesResponse struct {
	TagValues []string        `json:"tagValues"`
	Metrics   metadataMetrics `json:"metrics"`
}

func (t *tagValuesResponse) appendProto(dst []byte) []byte {
	for _, v := range t.TagValues {
		dst = appendBytes(dst, 1, v, true)
	}
	return appendMessage(dst, 2, t.Metrics.appendProto)
}

func (a *API) tagValuesV1(w http.ResponseWriter, r *http.Request) error {
	found, err := a.values(w, r, oldName)
	if err != nil {
		return err
	}
	out := &tagValuesResponse{TagValues: []string{}, Metrics: newMetadataMetrics(found.Stats)}
	for _, v := range found.Values {
		out.TagValues = append(out.TagValues, v.Value())
	}
	slices.Sort(out.TagValues)
	out.TagValues = slices.Compact(out.TagValues)
	return respond(w, r, out)
}

// oldName returns the TraceQL for a tag as the older API names it: an attribute
// without scope, or an intrinsic.
func oldName(name string) string {
	switch name {
	case "status.code":
		return "status"
	case "root.name":
		return "rootName"
	case "root.service.name":
		return "rootServiceName"
	}
	if a, err := traceql.ParseAttribute(name); err == nil && a.Intrinsic != traceql.IntrinsicNone {
		return name
	}
	return traceapi.Attribute(traceql.ScopeNone, name)
}

// tagValuesV2Response is Tempo's SearchTagValuesV2Response.
type tagValuesV2Response struct {
	TagValues []tagValue      `json:"tagValues"`
	Metrics   metadataMetrics `json:"metrics"`
}

type tagValue struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

func (t *tagValuesV2Response) appendProto(dst []byte) []byte {
	for _, v := range t.TagValues {
		dst = appendMessage(dst, 1, func(dst []byte) []byte {
			return appendBytes(appendBytes(dst, 1, v.Type, false), 2, v.Value, false)
		})
	}
	return appendMessage(dst, 2, t.Metrics.appendProto)
}

func (a *API) tagValuesV2(w http.ResponseWriter, r *http.Request) error {
	found, err := a.values(w, r, func(name string) string { return name })
	if err != nil {
		return err
	}
	out := &tagValuesV2Response{TagValues: []tagValue{}, Metrics: newMetadataMetrics(found.Stats)}
	for _, v := range found.Values {
		out.TagValues = append(out.TagValues, tagValue{typeName(v.Type), v.Value()})
	}
	return respond(w, r, out)
}

// typeName returns what Tempo calls a type of values: words of the language are
// keywords.
func typeName(t traceql.StaticType) string {
	switch t {
	case traceql.TypeStatus, traceql.TypeKind:
		return "keyword"
	case traceql.TypeArray:
		return "string"
	}
	return t.String()
}
