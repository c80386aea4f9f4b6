package featuretest

import (
	"fmt"
	"sync"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// found is what earlier tests of this process found out about the ways of a feature in
// an environment. An old kernel's verifier
// takes seconds to refuse each way that is better than the one that holds, and
// minutes where processors are emulated.
var found sync.Map // of result

type result struct {
	state  feature.State
	reason string
	way    string // that holds; empty: none
}

// climb is feature.Climb that does not try again what was refused before.
func climb(f feature.Feature, env *feature.Environment) (feature.State, string) {
	l := &ladder{Feature: f}
	key := fmt.Sprint(f.Name(), env.Calls != nil, env.MaxSeries, env.Proc)
	for _, r := range f.Ladder() {
		key += "\n" + r.Way
	}
	if before, ok := found.Load(key); ok {
		r := before.(result)
		if l.only = r.way; l.only == "" {
			return r.state, r.reason
		}
		if state, _ := feature.Climb(l, env); state == feature.Loaded {
			return r.state, r.reason
		}
		l.only = ""
	}
	state, reason := feature.Climb(l, env)
	found.Store(key, result{state, reason, l.held})
	return state, reason
}

// ladder tells which way of a feature holds.
type ladder struct {
	feature.Feature
	only, held string
}

// Ladder gives all ways, or the only one to try.
func (l *ladder) Ladder() []feature.Rung {
	var rungs []feature.Rung
	for _, r := range l.Feature.Ladder() {
		if l.only != "" && l.only != r.Way {
			continue
		}
		load := r.Load
		r.Load = func(env *feature.Environment) error {
			err := load(env)
			if err == nil {
				l.held = r.Way
			}
			return err
		}
		rungs = append(rungs, r)
	}
	return rungs
}
