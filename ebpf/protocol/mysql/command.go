package mysql

import "github.com/vedette-io/vedette/ebpf/protocol/sql"

// Commands, the first byte of a packet numbered 0.
const (
	comQuit            = 0x01
	comInitDB          = 0x02
	comQuery           = 0x03
	comFieldList       = 0x04
	comStatistics      = 0x09
	comProcessInfo     = 0x0a
	comBinlogDump      = 0x12
	comTableDump       = 0x13
	comChangeUser      = 0x11
	comRegisterReplica = 0x15
	comPrepare         = 0x16
	comExecute         = 0x17
	comSendLongData    = 0x18
	comStmtClose       = 0x19
	comStmtReset       = 0x1a
	comSetOption       = 0x1b
	comStmtFetch       = 0x1c
	comDaemon          = 0x1d
	comBinlogDumpGTID  = 0x1e
	comReset           = 0x1f
	comBulkExecute     = 0xfa // MariaDB
)

// commandOf gives the operation of a command, or "" if there is no such one.
// What a query does is told by its text.
func commandOf(c byte) string {
	switch c {
	case comQuery, comExecute, comBulkExecute:
		return sql.Other
	case comQuit:
		return "QUIT"
	case comInitDB:
		return "USE"
	case comFieldList:
		return "SHOW"
	case 0x05:
		return "CREATE"
	case 0x06:
		return "DROP"
	case 0x07:
		return "FLUSH"
	case 0x08:
		return "SHUTDOWN"
	case comStatistics:
		return "STATISTICS"
	case comProcessInfo:
		return "SHOW"
	case 0x0c:
		return "KILL"
	case 0x0d:
		return "DEBUG"
	case 0x0e:
		return "PING"
	case comChangeUser:
		return "CHANGE_USER"
	case comPrepare:
		return "PREPARE"
	case comStmtFetch:
		return "FETCH"
	case comStmtReset, comReset:
		return "RESET"
	case comSetOption:
		return "SET"
	case comSendLongData, comStmtClose, comBinlogDump, comTableDump, comRegisterReplica, comDaemon, comBinlogDumpGTID:
		return sql.Other
	}
	return ""
}

// Bounds of prepared statements.
const (
	maxStatements = 256
	maxSummaries  = 32
	lastPrepared  = 0xffffffff // MariaDB: the one prepared last, by its client's word
)

// statement is what a prepared statement does.
type statement struct {
	op      string
	summary []byte
}

// statements remembers what the prepared statements of a connection do. When
// there are too many, any one is forgotten; its executions are then OTHER.
type statements struct {
	byID      map[uint32]statement
	summaries int
	last      string // the operation of what was prepared last
}

// prepared remembers what w, which is being prepared, does.
func (s *statements) prepared(id uint32, op string, summary []byte) {
	s.forget(id)
	if s.byID == nil {
		s.byID = make(map[uint32]statement)
	}
	for k := range s.byID {
		if len(s.byID) < maxStatements {
			break
		}
		s.forget(k)
	}
	st := statement{op: op}
	if s.summaries < maxSummaries && len(summary) > 0 {
		st.summary = append([]byte(nil), summary...)
		s.summaries++
	}
	s.byID[id] = st
}

func (s *statements) forget(id uint32) {
	if st, ok := s.byID[id]; ok {
		if st.summary != nil {
			s.summaries--
		}
		delete(s.byID, id)
	}
}

// describe sets what executing a statement does.
func (s *statements) describe(id uint32, w *waiting) {
	if id == lastPrepared && s.last != "" {
		w.op = s.last
		return
	}
	if st, ok := s.byID[id]; ok {
		w.op = st.op
		w.summary = append(w.summary[:0], st.summary...)
	}
}
