package socket

import "sync"

// Counts are the kernel's figures of a socket since it was opened.
type Counts struct {
	Received uint64 // passed the filter, dropped ones included
	Drops    uint64 // of those, found no room
	Freezes  uint64 // times that a ring was full
	Filtered uint64 // refused by the filter; the kernel does not count them
}

// counter adds up statistics that the kernel resets when they are read
// (packet_getsockopt in net/packet/af_packet.c). They have 32 bits: whoever reads
// packets has it called before 2^32 of them.
type counter struct {
	read func(fd int) (received, drops, freezes uint32, err error)
	mu   sync.Mutex
	sum  Counts
}

func (c *counter) add(fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	received, drops, freezes, err := c.read(fd)
	if err != nil {
		return // nothing was reset
	}
	c.sum.Received += uint64(received)
	c.sum.Drops += uint64(drops)
	c.sum.Freezes += uint64(freezes)
}

func (c *counter) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.Drops++
}

func (c *counter) total() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sum
}
