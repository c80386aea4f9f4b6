package rows

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
)

// Block reads one block. It is a Source, and may be used by many goroutines.
type Block struct {
	r      *block.Reader
	meta   Meta
	heads  []groupHead
	groups []*Group

	columns []ColumnInfo
	dicts   []blockDict // by column

	spaceMu sync.Mutex // held while space is read
	space   atomic.Pointer[Space]

	cache   *Cache      // nil keeps everything
	cached  int64       // guarded by the cache
	touched atomic.Bool // since the cache looked

	tracesOnce sync.Once
	tracesErr  error
	traces     intColumn // traces in the order of their ids
}

// blockDict is a dictionary that is read when it is first asked for.
type blockDict struct {
	n         int
	firstPage int
	pages     []int // strings of each page
	mu        sync.Mutex
	loaded    atomic.Pointer[Dictionary]
}

// Open opens the block in dir. The error is a block.CorruptionError if its bytes
// are damaged, and block.ErrVersion if a newer Vedette wrote it.
func Open(fs vfs.FS, dir string) (*Block, error) {
	r, err := block.Open(fs, dir)
	if err != nil {
		return nil, err
	}
	b, err := newBlock(r)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return b, nil
}

func newBlock(r *block.Reader) (*Block, error) {
	m, err := decodeMeta(r.Meta())
	if err != nil {
		return nil, &block.CorruptionError{Block: r.Dir(), Reason: err.Error()}
	}
	if m.Version < 1 || m.Version > currentVersion {
		return nil, fmt.Errorf("open block %s: spans of version %d, want at most %d: %w", r.Dir(), m.Version, currentVersion, block.ErrVersion)
	}
	b := &Block{r: r, meta: m}
	if err := b.readColumns(); err != nil {
		return nil, err
	}
	if err := b.readGroups(); err != nil {
		return nil, err
	}
	return b, nil
}

// Meta describes the block.
func (b *Block) Meta() Meta { return b.meta }

// Dir returns the block's directory.
func (b *Block) Dir() string { return b.r.Dir() }

// Size returns the bytes of the block.
func (b *Block) Size() int64 { return b.r.Size() }

// UseCache makes c bound what the block keeps in memory. It comes before anything
// is read.
func (b *Block) UseCache(c *Cache) { b.cache = c }

// Close releases the block's file. Nothing that came from the block may be used
// afterwards.
func (b *Block) Close() error {
	b.cache.remove(b)
	return b.r.Close()
}

// touch says that the block is in use.
func (b *Block) touch() {
	if !b.touched.Load() { // most often it is, and a store would take the line away from others
		b.touched.Store(true)
	}
}

// Groups returns the row groups, in the order of their traces' starts.
func (b *Block) Groups() []*Group { return b.groups }

// Sections calls f for every section of the file with its pages and bytes.
func (b *Block) Sections(f func(name string, pages int, bytes int64)) { b.r.Sections(f) }

// corrupt says what is wrong with a page.
func (b *Block) corrupt(section string, page int, format string, args ...any) error {
	off, _, _ := b.r.Locate(section, page)
	return &block.CorruptionError{Block: b.r.Dir(), Section: section, Page: page, Offset: off, Reason: fmt.Sprintf(format, args...)}
}

// pages calls f with every page of a section; f's parser must be used up.
func (b *Block) pages(section string, f func(page int, p *parser) error) error {
	var buf, data []byte
	for i := range b.r.Pages(section) {
		var err error
		if data, buf, err = b.r.Page(section, i, buf); err != nil {
			return err
		}
		p := parser{b: data}
		if err := f(i, &p); err != nil {
			var c *block.CorruptionError
			if errors.As(err, &c) {
				return err
			}
			return b.corrupt(section, i, "%v", err)
		}
		if p.bad || len(p.b) != 0 {
			return b.corrupt(section, i, "cut short or too long")
		}
	}
	return nil
}

// readColumns reads the columns of the space and where their dictionaries are.
func (b *Block) readColumns() error {
	page := 0
	err := b.pages(sectionColumns, func(_ int, p *parser) error {
		n := p.count()
		b.columns, b.dicts = make([]ColumnInfo, n), make([]blockDict, n)
		for i := range n {
			c, d := &b.columns[i], &b.dicts[i]
			*c = ColumnInfo{Level: Level(p.u8()), Role: Role(p.u8()), Type: signal.AttrType(p.u8()), Key: p.text()}
			if c.Level >= NumLevels || c.Role >= NumRoles || c.Type >= signal.NumAttrTypes || !c.roleFits() {
				return badColumn("column %d has level %d, role %d, type %d", i, c.Level, c.Role, c.Type)
			}
			d.n = p.number(maxTextBytes)
			d.firstPage = page
			for left := d.n; left > 0 && !p.bad; page++ {
				m := p.number(min(left, stringsPerPage))
				if m == 0 {
					p.bad = true
				}
				d.pages = append(d.pages, m)
				left -= m
			}
		}
		return nil
	})
	if err == nil && b.r.Pages(sectionColumns) != 1 {
		err = b.corrupt(sectionColumns, 0, "%d pages, want 1", b.r.Pages(sectionColumns))
	}
	return err
}

// roleFits reports whether the column's type is that of its role.
func (c *ColumnInfo) roleFits() bool {
	switch c.Role {
	case RoleAttr:
		return true
	case RoleRest:
		return c.Type == signal.AttrBytes
	case RoleMessage, RoleState:
		return c.Type == signal.AttrString
	}
	return c.Type == signal.AttrInt
}

// readGroups reads the headers of all groups and numbers their pages.
func (b *Block) readGroups() error {
	var page, bloom, traces, rows int
	err := b.pages(sectionGroups, func(_ int, p *parser) error {
		for len(p.b) > 0 && !p.bad {
			var h groupHead
			if err := h.parse(p, len(b.columns)); err != nil {
				return err
			}
			h.firstPage = page
			for k := range numPageKinds {
				if h.pages>>k&1 == 1 {
					page++
				}
			}
			h.pageOf = make([]int, len(h.columns))
			for k, c := range h.columns {
				h.pageOf[k] = -1
				if b.columns[c].Type != signal.AttrEmpty {
					h.pageOf[k] = page
					page++
				}
			}
			if h.bloom {
				h.bloomPage = bloom
				bloom++
			}
			h.traceBase = traces
			traces += h.info.Traces
			rows += h.info.Rows
			b.heads = append(b.heads, h)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if m := &b.meta; len(b.heads) != m.Groups || int64(traces) != m.Traces || int64(rows) != m.Spans {
		return b.corrupt(sectionGroups, 0, "%d groups, %d traces, %d spans, want %d, %d, %d", len(b.heads), traces, rows, m.Groups, m.Traces, m.Spans)
	}
	b.groups = make([]*Group, len(b.heads))
	for i := range b.heads {
		b.groups[i] = &Group{info: b.heads[i].info, data: &blockGroup{b: b, head: &b.heads[i]}}
	}
	return nil
}

// Space returns what indexes in the block's groups mean. It is read when it is
// asked for and not in memory.
func (b *Block) Space() (*Space, error) {
	b.touch()
	if s := b.space.Load(); s != nil {
		return s, nil
	}
	b.spaceMu.Lock()
	defer b.spaceMu.Unlock()
	if s := b.space.Load(); s != nil {
		return s, nil
	}
	s, err := b.readSpace()
	if err != nil {
		return nil, err
	}
	b.space.Store(s)
	b.cache.add(b, s.memory())
	return s, nil
}

// memory returns about how much memory the space of a block takes.
func (s *Space) memory() int {
	n := 1000 + 100*len(s.Columns) + 72*len(s.Shapes) + 4*(len(s.producers.ends)+len(s.producers.list))
	var columns *uint32
	for i := range s.Shapes {
		sh := &s.Shapes[i]
		n += len(sh.Name)
		if len(sh.Columns) > 0 && &sh.Columns[0] != columns { // of several shapes, and next to each other mostly
			columns = &sh.Columns[0]
			n += 4 * len(sh.Columns)
		}
	}
	attributes := func(list []Attribute) {
		for i := range list {
			n += 48 + len(list[i].Key) + len(list[i].Text)
		}
	}
	for i := range s.Scopes {
		c := &s.Scopes[i]
		n += 80 + len(c.Name) + len(c.Version) + len(c.SchemaURL)
		attributes(c.Attrs)
	}
	for i := range s.Resources {
		r := &s.Resources[i]
		n += 64 + len(r.Service) + len(r.SchemaURL)
		attributes(r.Attrs)
	}
	return n
}

func (b *Block) readSpace() (*Space, error) {
	s := &Space{Columns: b.columns, loadDict: b.dictionary, byColumn: make(map[ColumnInfo]uint32, len(b.columns))}
	for i, c := range b.columns {
		s.byColumn[c] = uint32(i)
	}
	err := b.pages(sectionScopes, func(_ int, p *parser) error {
		for range p.count() {
			sc := ScopeInfo{Name: p.text(), Version: p.text(), SchemaURL: p.text()}
			sc.Attrs, sc.DroppedAttrs = readAttributes(p)
			s.Scopes = append(s.Scopes, sc)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = b.pages(sectionResources, func(_ int, p *parser) error {
		for range p.count() {
			r := ResourceInfo{Service: p.text(), SchemaURL: p.text()}
			r.Attrs, r.DroppedAttrs = readAttributes(p)
			s.Resources = append(s.Resources, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := b.readShapes(s); err != nil {
		return nil, err
	}
	return s, b.readProducers(s)
}

func readAttributes(p *parser) ([]Attribute, uint32) {
	dropped := uint32(p.uvarint())
	n := p.count()
	if n == 0 {
		return nil, dropped
	}
	attrs := make([]Attribute, n)
	for i := range attrs {
		a := &attrs[i]
		a.Key, a.Type = p.text(), signal.AttrType(p.u8())
		if a.Type >= signal.NumAttrTypes {
			p.bad = true
		}
		if a.Type.InBuf() {
			a.Text = p.text()
		} else {
			a.Num = p.uvarint()
		}
	}
	return attrs, dropped
}

func (b *Block) readShapes(s *Space) error {
	var layouts [][]uint32
	err := b.pages(sectionShapes, func(page int, p *parser) error {
		if page == 0 {
			layouts = make([][]uint32, p.count())
			for i := range layouts {
				l := make([]uint32, p.count())
				for k := range l {
					l[k] = uint32(p.number(len(b.columns) - 1))
				}
				layouts[i] = l
			}
			return nil
		}
		return readShapePage(p, s, layouts)
	})
	if err != nil {
		return err
	}
	if len(s.Shapes) != b.meta.Shapes {
		return b.corrupt(sectionShapes, 0, "%d shapes, want %d", len(s.Shapes), b.meta.Shapes)
	}
	return nil
}

func readShapePage(p *parser, s *Space, layouts [][]uint32) error {
	n := p.number(shapesPerPage)
	levels, kinds := readInts[uint8](p, n), readInts[uint8](p, n)
	scopes, flags, lists := readInts[uint32](p, n), readInts[uint32](p, n), readInts[uint32](p, n)
	if p.bad {
		return nil
	}
	var t textBuffers
	if err := t.decode(p.b, n, 0, n); err != nil {
		return err
	}
	p.b = nil
	names := string(t.data)
	for i := range n {
		sh := Shape{Level: Level(levels[i]), Kind: kinds[i], Scope: scopes[i], Flags: flags[i], Name: names[t.offs[i]:t.offs[i+1]]}
		switch {
		case sh.Level >= NumLevels, int(lists[i]) >= len(layouts):
			return badColumn("shape %d has level %d, list %d", len(s.Shapes), sh.Level, lists[i])
		case sh.Level == LevelSpan && int(sh.Scope) >= len(s.Scopes):
			return badColumn("shape %d has scope %d of %d", len(s.Shapes), sh.Scope, len(s.Scopes))
		}
		sh.Columns = layouts[lists[i]]
		for _, c := range sh.Columns {
			if s.Columns[c].Level != sh.Level {
				return badColumn("shape %d of level %d has column %d", len(s.Shapes), sh.Level, c)
			}
		}
		s.Shapes = append(s.Shapes, sh)
	}
	return nil
}

// shapeProducers lists, for every shape, the resources it was seen with.
type shapeProducers struct {
	ends []uint32
	list []uint32
}

func (b *Block) readProducers(s *Space) error {
	pr := &s.producers
	err := b.pages(sectionProducers, func(page int, p *parser) error {
		n := min(len(s.Shapes)-page*shapesPerPage, shapesPerPage)
		if n <= 0 {
			return badColumn("more pages than shapes")
		}
		total := uint64(0)
		for _, m := range readInts[uint32](p, n) {
			total += uint64(m)
			pr.ends = append(pr.ends, uint32(len(pr.list))+uint32(total))
		}
		if p.bad || total > maxGroupValues*16 {
			return badColumn("%d producers", total)
		}
		c, err := parseInts(p.b, int(total))
		if err != nil {
			return err
		}
		p.b = nil
		list := make([]uint32, total)
		if err := decodeInts(list, &c, 0); err != nil {
			return err
		}
		for _, r := range list {
			if int(r) >= len(s.Resources) {
				return badColumn("resource %d of %d", r, len(s.Resources))
			}
		}
		pr.list = append(pr.list, list...)
		return nil
	})
	if err == nil && len(pr.ends) != len(s.Shapes) {
		err = b.corrupt(sectionProducers, 0, "producers of %d shapes, want %d", len(pr.ends), len(s.Shapes))
	}
	return err
}

// dictionary returns the dictionary of a column, nil if it has none.
func (b *Block) dictionary(col uint32) (*Dictionary, error) {
	if int(col) >= len(b.dicts) || b.dicts[col].n == 0 {
		return nil, nil
	}
	d := &b.dicts[col]
	b.touch()
	if l := d.loaded.Load(); l != nil {
		return l, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.loaded.Load(); l != nil {
		return l, nil
	}
	offs, data := make([]uint32, 1, min(d.n, stringsPerPage)+1), []byte(nil)
	var t textBuffers
	for k, n := range d.pages {
		page, _, err := b.r.Page(sectionStrings, d.firstPage+k, nil)
		if err != nil {
			return nil, err
		}
		if err := t.decode(page, n, 0, n); err != nil {
			return nil, b.corrupt(sectionStrings, d.firstPage+k, "%v", err)
		}
		base := uint32(len(data))
		data = append(data, t.data...)
		if len(data) > 4*maxTextBytes {
			return nil, b.corrupt(sectionStrings, d.firstPage+k, "dictionary of more than %d bytes", len(data))
		}
		for _, o := range t.offs[1:] {
			offs = append(offs, base+o)
		}
	}
	l := NewDictionary(offs, data)
	d.loaded.Store(l)
	b.cache.add(b, cap(data)+4*cap(offs))
	return l, nil
}

// Verify reads everything in the block and returns what is damaged.
func (b *Block) Verify() []error {
	errs := b.r.Verify()
	if len(errs) > 0 {
		return errs
	}
	if _, err := b.Space(); err != nil {
		return append(errs, err)
	}
	for col := range b.dicts {
		if _, err := b.dictionary(uint32(col)); err != nil {
			errs = append(errs, err)
		}
	}
	var c Cursor
	for _, g := range b.groups {
		if err := readAll(&c, g); err != nil {
			errs = append(errs, err)
		}
	}
	return append(errs, b.verifyTraces()...)
}

// readAll decodes every column of a group.
func readAll(c *Cursor, g *Group) error {
	if err := c.Seek(g); err != nil {
		return err
	}
	for col := range c.Space().Columns {
		if _, err := c.Column(col); err != nil {
			return err
		}
	}
	_, err1 := c.Shapes()
	_, err2 := c.Resources()
	_, err3 := c.Starts()
	_, err4 := c.Durations()
	_, err5 := c.Statuses()
	_, err6 := c.ParentIDs()
	_, err7 := c.EventRows()
	_, err8 := c.LinkRows()
	err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8)
	if err == nil && g.info.Events > 0 {
		_, err1 = c.EventShapes()
		_, err2 = c.EventTimes()
		err = errors.Join(err1, err2)
	}
	if err == nil && g.info.Links > 0 {
		_, err1 = c.LinkShapes()
		_, err2 = c.LinkSpanIDs()
		_, err3 = c.LinkTraceIDs()
		err = errors.Join(err1, err2, err3)
	}
	return err
}
