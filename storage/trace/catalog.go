package trace

import (
	"cmp"
	"slices"
	"sync"
	"unique"

	"github.com/vedette-io/vedette/internal/signal"
)

// A head or block lists so many services and operations at most, and of one
// service not more operations than that: one that puts ids into its span names
// has no end of them, and must not keep others off the list.
const (
	maxOperations        = 10_000
	maxServiceOperations = 1000
)

// Operation is a kind of span that a service makes.
type Operation struct {
	Name string `json:"name"`
	Kind uint8  `json:"kind,omitempty"` // as OTLP numbers them
}

func (o Operation) compare(p Operation) int {
	return cmp.Or(cmp.Compare(o.Name, p.Name), cmp.Compare(o.Kind, p.Kind))
}

// operations are the services and operations of one head or block.
type operations struct {
	services map[string]map[Operation]struct{}
	n        int // of both
}

func newOperations() *operations {
	return &operations{services: make(map[string]map[Operation]struct{})}
}

// full reports whether something may be missing.
func (o *operations) full() bool { return o.n >= maxOperations }

// service returns the operations of a service, which is added if need be.
func (o *operations) service(name string) map[Operation]struct{} {
	s := o.services[name]
	if s == nil {
		s = make(map[Operation]struct{})
		o.services[unique.Make(name).Value()] = s
	}
	return s
}

// addList adds what a block lists, but for services that skip names.
func (o *operations) addList(list []ServiceOperations, skip func(service string) bool) {
	for _, l := range list {
		if skip != nil && skip(l.Service) {
			continue
		}
		if _, ok := o.services[l.Service]; !ok {
			o.n++
		}
		s := o.service(l.Service)
		for _, op := range l.Operations {
			if o.full() || len(s) >= maxServiceOperations {
				break
			}
			if _, ok := s[op]; !ok {
				s[op] = struct{}{}
				o.n++
			}
		}
	}
}

// list returns everything, sorted.
func (o *operations) list() []ServiceOperations {
	out := make([]ServiceOperations, 0, len(o.services))
	for _, name := range sortedKeys(o.services) {
		l := ServiceOperations{Service: name, Operations: make([]Operation, 0, len(o.services[name]))}
		for op := range o.services[name] {
			l.Operations = append(l.Operations, op)
		}
		slices.SortFunc(l.Operations, Operation.compare)
		out = append(out, l)
	}
	return out
}

// intern shares the strings of a list that was decoded with all others.
func intern(list []ServiceOperations) {
	for i := range list {
		list[i].Service = unique.Make(list[i].Service).Value()
		for j := range list[i].Operations {
			op := &list[i].Operations[j]
			op.Name = unique.Make(op.Name).Value()
		}
	}
}

// observe adds the operations of a batch, and those that are new to c as well.
// Spans of one line of code cost a map look-up each.
func (o *operations) observe(b *signal.Spans, c *catalog) {
	var current map[Operation]struct{}
	var service string
	scope := ^uint32(0)
	for i := range b.SpanIDs {
		if b.Scope[i] != scope {
			scope = b.Scope[i]
			r := &b.Resources[b.Scopes[scope].Resource]
			service = serviceOf(b, r)
			if _, ok := o.services[service]; !ok && !o.full() {
				o.service(service)
				o.n++
				c.add(service, nil)
			}
			current = o.services[service]
		}
		name := b.Bytes(b.Names[i])
		if _, ok := current[Operation{string(name), b.Kinds[i]}]; ok || o.full() || len(current) >= maxServiceOperations {
			continue
		}
		op := Operation{unique.Make(string(name)).Value(), b.Kinds[i]}
		current[op] = struct{}{}
		o.n++
		c.add(service, []Operation{op})
	}
}

// serviceOf returns the service name of a resource; "" if it has none.
func serviceOf(b *signal.Spans, r *signal.Resource) string {
	for _, a := range b.Attrs[r.AttrBegin:r.AttrEnd] {
		if a.Type == signal.AttrString && string(b.Bytes(a.Key)) == "service.name" {
			return unique.Make(string(b.Bytes(a.Range()))).Value()
		}
	}
	return ""
}

// catalog counts, for a tenant, how many heads and blocks list a service and an
// operation.
type catalog struct {
	mu       sync.Mutex
	services map[string]*catalogService
	names    []string // sorted; nil if it must be made again
}

type catalogService struct {
	holders    int
	operations map[Operation]int
	sorted     []Operation // nil if it must be made again
}

func newCatalog() *catalog { return &catalog{services: make(map[string]*catalogService)} }

// add counts operations of a service; without any, the service itself.
func (c *catalog) add(service string, ops []Operation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[service]
	if s == nil {
		s = &catalogService{operations: make(map[Operation]int)}
		c.services[service] = s
		c.names = nil
	}
	if len(ops) == 0 {
		s.holders++
	}
	for _, op := range ops {
		s.operations[op]++
		if s.operations[op] == 1 {
			s.sorted = nil
		}
	}
}

// addList counts what a block lists.
func (c *catalog) addList(list []ServiceOperations) {
	for _, l := range list {
		c.add(l.Service, nil)
		if len(l.Operations) > 0 {
			c.add(l.Service, l.Operations)
		}
	}
}

// removeList takes back what addList, or observe of a head, has counted.
func (c *catalog) removeList(list []ServiceOperations) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range list {
		s := c.services[l.Service]
		if s == nil {
			continue
		}
		for _, op := range l.Operations {
			if s.operations[op]--; s.operations[op] <= 0 {
				delete(s.operations, op)
				s.sorted = nil
			}
		}
		if s.holders--; s.holders <= 0 {
			delete(c.services, l.Service)
			c.names = nil
		}
	}
}

func (c *catalog) serviceNames() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names == nil {
		c.names = sortedKeys(c.services)
	}
	return c.names
}

func (c *catalog) operationsOf(service string) []Operation {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[service]
	if s == nil {
		return nil
	}
	if s.sorted == nil {
		s.sorted = make([]Operation, 0, len(s.operations))
		for op := range s.operations {
			s.sorted = append(s.sorted, op)
		}
		slices.SortFunc(s.sorted, Operation.compare)
	}
	return s.sorted
}

// Services returns the services that the tenant's stored spans name, sorted; ""
// stands for spans without a service. The slice is shared.
func (db *DB) Services(tenant string) []string {
	if t := db.lookupTenant(tenant); t != nil {
		return t.catalog.serviceNames()
	}
	return nil
}

// Operations returns the operations of a service by name and kind. The slice is
// shared. A block lists at most 1,000 of them, and 10,000 of all services.
func (db *DB) Operations(tenant, service string) []Operation {
	if t := db.lookupTenant(tenant); t != nil {
		return t.catalog.operationsOf(service)
	}
	return nil
}
