package zipkin

import (
	"net/url"
	"strings"
	"time"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// remoteServiceKeys are the attributes that name the remote endpoint's service,
// the one that counts first.
var remoteServiceKeys = [...]string{attrRemoteService, attrPeerService, "service.peer.name"}

// searchRequest reads the parameters of a search: one span meets all conditions,
// as in Zipkin's Elasticsearch storage.
func (a *API) searchRequest(q url.Values) (req traceql.SearchRequest, err error) {
	if req.Start, req.End, err = a.timeRange(q); err != nil {
		return req, err
	}
	req.Limit, req.SpansPerSpanset = defaultLimit, 1
	if n, ok, err := intParam(q, "limit", 1); err != nil {
		return req, err
	} else if ok {
		if n <= 0 {
			return req, traceapi.BadRequest("limit <= 0")
		}
		req.Limit = int(min(n, traceapi.MaxTraces))
	}
	var c []string
	if service := q.Get("serviceName"); service != "" {
		c = append(c, "resource.service.name = "+traceapi.Quote(service))
	}
	if name := q.Get("spanName"); name != "" && name != "all" {
		c = append(c, "name = "+traceapi.Quote(name))
	}
	if remote := q.Get("remoteServiceName"); remote != "" {
		either := make([]string, len(remoteServiceKeys))
		for i, key := range remoteServiceKeys {
			either[i] = traceapi.Attribute(traceql.ScopeSpan, key) + " = " + traceapi.Quote(remote)
		}
		c = append(c, strings.Join(either, " || "))
	}
	c = append(c, annotationConditions(q.Get("annotationQuery"))...)
	least, hasLeast, err := intParam(q, "minDuration", time.Microsecond)
	if err != nil {
		return req, err
	}
	most, hasMost, err := intParam(q, "maxDuration", time.Microsecond)
	if err != nil {
		return req, err
	}
	switch {
	case hasLeast && least <= 0:
		return req, traceapi.BadRequest("minDuration <= 0")
	case hasMost && !hasLeast:
		return req, traceapi.BadRequest("maxDuration is only valid with minDuration")
	case hasMost && most < least:
		return req, traceapi.BadRequest("maxDuration < minDuration")
	}
	if hasLeast {
		c = append(c, "duration >= "+traceapi.Duration(time.Duration(least)))
	}
	if hasMost {
		c = append(c, "duration <= "+traceapi.Duration(time.Duration(most)))
	}
	req.Query = traceapi.AllOf(c...)
	return req, nil
}

// annotationConditions returns the conditions of an annotation query: "key=value"
// is a tag, a word alone an annotation or a tag with any value; "and" joins them.
func annotationConditions(query string) []string {
	var c []string
	for _, part := range strings.Split(query, " and ") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		key, value, isTag := strings.Cut(part, "=")
		attr := traceapi.Attribute(traceql.ScopeNone, key)
		switch {
		case key == "":
			// "=value" names nothing
		case isTag && key == "error" && value == "true":
			c = append(c, "status = error || "+traceapi.Equals(attr, value))
		case isTag && key == "otel.status_code" && (value == "ERROR" || value == "OK"):
			c = append(c, "status = "+strings.ToLower(value))
		case isTag:
			c = append(c, traceapi.Equals(attr, value))
		case key == "error":
			c = append(c, "status = error || "+attr+" != nil")
		default:
			c = append(c, "event:name = "+traceapi.Quote(key)+" || "+attr+" != nil")
		}
	}
	return c
}
