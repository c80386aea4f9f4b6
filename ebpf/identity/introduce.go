package identity

// Facts are what the kernel has told of a process when a program began in it.
type Facts struct {
	Executable string
	// Groups are the paths of its control groups.
	Groups        []string
	Args, Environ []string
	// Partial: there are more arguments or variables than these.
	Partial bool
}

// Introduce names process k by facts, without a look into /proc, and in place of
// what was known: the program that ran in it before. Where the facts are partial
// /proc is asked, as long as the process lives.
func (r *Resolver) Introduce(k Key, f Facts) {
	e := new(entry)
	if f.Partial {
		e = r.read(k, "")
	}
	if e.process.Executable == "" {
		var groups string
		for _, path := range f.Groups {
			groups += "0::" + path + "\n"
		}
		e.process = Process{Key: k, Executable: clean(f.Executable), Group: ParseGroup(groups)}
		e.told = e.process.settle("", f.Args, f.Environ)
	}
	r.put(k, e)
}

// Inherit names process k as its parent is named, if that is known, until it
// begins a program of its own.
func (r *Resolver) Inherit(k, parent Key) {
	r.mu.Lock()
	e := r.cache[parent]
	if e == nil {
		r.mu.Unlock()
		return
	}
	child := &entry{process: e.process, told: e.told, program: e.program, names: e.names}
	r.mu.Unlock()
	child.process.Key = k
	r.put(k, child)
}
