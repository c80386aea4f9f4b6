package rows

import "sync"

// Cache bounds what many blocks keep decoded of their spaces and dictionaries,
// which is little for most blocks, but as much as the block itself where spans are
// named after what is in them. What was dropped is read again when it is needed;
// whoever has it keeps it meanwhile. It is safe for concurrent use.
type Cache struct {
	max int64

	mu     sync.Mutex
	used   int64
	blocks []*Block // those that have something in memory
	hand   int      // next of blocks to look at
}

// NewCache returns a cache of so many bytes.
func NewCache(maxBytes int64) *Cache { return &Cache{max: maxBytes} }

// Bytes returns about how much memory is used.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// add counts what a block has read, and makes room for it: blocks that were not
// used since they were last looked at go.
func (c *Cache) add(b *Block, bytes int) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.cached == 0 {
		c.blocks = append(c.blocks, b)
	}
	b.cached += int64(bytes)
	c.used += int64(bytes)
	for looks := 2 * len(c.blocks); looks > 0 && c.used > c.max; looks-- {
		if c.hand >= len(c.blocks) {
			c.hand = 0
		}
		if old := c.blocks[c.hand]; old == b || old.touched.Swap(false) {
			c.hand++
		} else {
			c.dropLocked(c.hand)
		}
	}
}

// remove drops a block that is about to be closed.
func (c *Cache) remove(b *Block) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, o := range c.blocks {
		if o == b {
			c.dropLocked(i)
			return
		}
	}
}

// dropLocked makes block number i forget what it has read.
func (c *Cache) dropLocked(i int) {
	b, last := c.blocks[i], len(c.blocks)-1
	b.space.Store(nil)
	for k := range b.dicts {
		b.dicts[k].loaded.Store(nil)
	}
	c.used -= b.cached
	b.cached = 0
	c.blocks[i] = c.blocks[last]
	c.blocks[last] = nil
	c.blocks = c.blocks[:last]
}
