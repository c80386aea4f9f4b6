package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"

	"github.com/vedette-io/vedette/internal/vfs"
)

// sessions say in which opening of the queue a message was appended. Its file is
// written before anything is: a copy of the directory shares the sessions of what
// it was copied with, and what the two append later has the same offsets, but not
// the same session. So the destination takes both for what they are.
type sessions map[string][]session // by lane, oldest first

// session begins at an offset and ends where the next one begins.
type session struct {
	From int64  `json:"from"`
	ID   uint64 `json:"id"`
}

const (
	sessionsName = "sessions.json"

	// maxSessions bounds what is kept for a lane. What is older than the first that is
	// kept counts as of it: it may be delivered twice.
	maxSessions = 256
)

// openSessions begins a session in every lane: at the offset that its next message
// gets, or before, if what is there was never sent. What is below the lane's committed offset is forgotten.
func openSessions(fsys vfs.FS, dir string, next, committed map[laneKey]int64, logger *slog.Logger) (sessions, error) {
	file := filepath.Join(dir, sessionsName)
	all := sessions{}
	b, err := vfs.ReadFile(fsys, file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read sessions: %w", err)
	default:
		if err := json.Unmarshal(b, &all); err != nil || all == nil {
			logger.Warn("The sessions of the queue are damaged: what was delivered and not noted may be delivered twice", "file", file, "err", err)
			all = sessions{}
		}
	}
	now := sessions{}
	for k, at := range next {
		list := all[k.String()]
		for len(list) > 1 && list[1].From <= committed[k] || len(list) > maxSessions {
			list = list[1:]
		}
		for n := len(list); n > 0 && list[n-1].From >= at; n = len(list) { // of it nothing was sent
			list = list[:n-1]
		}
		now[k.String()] = append(list[:len(list):len(list)], session{at, rand.Uint64()})
	}
	if b, err = json.Marshal(now); err == nil {
		err = vfs.WriteFile(fsys, file, b)
	}
	if err != nil {
		return nil, fmt.Errorf("write sessions: %w", err)
	}
	return now, nil
}

// of returns the session of an offset, and where it ends.
func (s sessions) of(k laneKey, offset int64) (id uint64, end int64) {
	list := s[k.String()]
	end = math.MaxInt64
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].From <= offset || i == 0 {
			return list[i].ID, end
		}
		end = list[i].From
	}
	return 0, end
}

// begin returns where the newest session of a lane begins: what is below, and nothing
// else, may have been sent by a process before this one.
func (s sessions) begin(k laneKey) int64 {
	if list := s[k.String()]; len(list) > 0 {
		return list[len(list)-1].From
	}
	return 0
}
