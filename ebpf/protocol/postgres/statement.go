package postgres

import (
	"hash/maphash"

	"github.com/vedette-io/vedette/ebpf/protocol/sql"
)

// Bounds of prepared statements and portals.
const (
	maxStatements          = 256
	maxStatementsSummaries = 32
	maxPortals             = 16
)

// statement is what a prepared statement does.
type statement struct {
	op      string
	summary []byte
}

// statements remembers what the prepared statements of a connection do, by a hash
// of their names. When there are too many, any one is forgotten; its executions
// are then named by the server's answers.
type statements struct {
	seed      maphash.Seed
	unnamed   statement
	named     map[uint64]statement
	summaries int
	lastName  uint64
	portal    uint64 // the statement that the portal without a name executes; 0: the one without a name
	portals   map[uint64]uint64
}

func (s *statements) hash(name []byte) uint64 {
	if s.seed == (maphash.Seed{}) {
		s.seed = maphash.MakeSeed()
	}
	return maphash.Bytes(s.seed, name) | 1 // 0 is the one without a name
}

// parse takes the text of a statement.
func (s *statements) parse(name, text []byte) {
	if len(name) == 0 {
		s.unnamed.op = sql.Operation(text)
		s.unnamed.summary = sql.AppendSummary(s.unnamed.summary[:0], text, sql.PostgreSQL)
		s.lastName = 0
		return
	}
	key := s.hash(name)
	s.forgetKey(key)
	if s.named == nil {
		s.named = make(map[uint64]statement)
	}
	for k := range s.named {
		if len(s.named) < maxStatements {
			break
		}
		s.forgetKey(k)
	}
	st := statement{op: sql.Operation(text)}
	if s.summaries < maxStatementsSummaries {
		st.summary = sql.AppendSummary(nil, text, sql.PostgreSQL)
		s.summaries++
	}
	s.named[key] = st
	s.lastName = key
}

// bind says which statement a portal executes.
func (s *statements) bind(portal, name []byte) {
	var key uint64
	if len(name) > 0 {
		key = s.hash(name)
	}
	if len(portal) == 0 {
		s.portal = key
		return
	}
	if s.portals == nil {
		s.portals = make(map[uint64]uint64)
	}
	for k := range s.portals {
		if len(s.portals) < maxPortals {
			break
		}
		delete(s.portals, k)
	}
	s.portals[s.hash(portal)] = key
}

// forget drops a statement that the client closes.
func (s *statements) forget(name []byte) {
	if len(name) > 0 {
		s.forgetKey(s.hash(name))
	}
}

func (s *statements) forgetKey(key uint64) {
	if st, ok := s.named[key]; ok {
		if st.summary != nil {
			s.summaries--
		}
		delete(s.named, key)
	}
}

// describePortal sets what executing a portal does.
func (s *statements) describePortal(portal []byte, w *waiting) {
	key := s.portal
	if len(portal) > 0 {
		var ok bool
		if key, ok = s.portals[s.hash(portal)]; !ok {
			return
		}
	}
	s.describe(key, w)
}

// describeLast sets what the statement that was parsed last does.
func (s *statements) describeLast(w *waiting) { s.describe(s.lastName, w) }

func (s *statements) describe(key uint64, w *waiting) {
	st := s.unnamed
	if key != 0 {
		var ok bool
		if st, ok = s.named[key]; !ok {
			return
		}
	}
	if st.op == "" {
		return
	}
	w.op = st.op
	if cap(w.summary) >= len(st.summary) {
		w.summary = append(w.summary[:0], st.summary...)
	}
}
