package mock

import (
	"errors"
	"io"
	"sync/atomic"

	"weir/capture"
)

// Chain is a source of several, one after the other. Its interfaces are those of
// all.
type Chain struct {
	sources   []capture.Source
	at        int
	first     uint32 // number of the current source's interface 0
	batch     []capture.Packet
	unblocked atomic.Bool // NextBatch has to say so
}

var _ capture.Source = (*Chain)(nil)

// NewChain returns a chain, which closes the sources when it is closed.
func NewChain(sources ...capture.Source) *Chain { return &Chain{sources: sources} }

// NextBatch returns the next packets of the first source that has not ended.
func (c *Chain) NextBatch() ([]capture.Packet, error) {
	for c.at < len(c.sources) {
		packets, err := c.sources[c.at].NextBatch()
		if errors.Is(err, capture.ErrUnblocked) && !c.unblocked.Swap(false) {
			continue // another source has answered
		}
		if err == io.EOF {
			c.first += uint32(len(c.sources[c.at].Interfaces()))
			c.at++
			continue
		}
		// In copies: the descriptors are the source's, which may rely on them.
		c.batch = append(c.batch[:0], packets...)
		for i := range c.batch {
			c.batch[i].Interface += c.first
		}
		return c.batch, err
	}
	return nil, io.EOF
}

// Interfaces returns the interfaces of the sources up to the current one.
func (c *Chain) Interfaces() (all []capture.Interface) {
	for _, s := range c.sources[:min(c.at+1, len(c.sources))] {
		all = append(all, s.Interfaces()...)
	}
	return all
}

// Stats returns the sum of all sources.
func (c *Chain) Stats() (sum capture.Stats) {
	for _, s := range c.sources {
		one := s.Stats()
		sum.Packets += one.Packets
		sum.Received += one.Received
		sum.Drops += one.Drops
		sum.Freezes += one.Freezes
		sum.Filtered += one.Filtered
	}
	return sum
}

// Unblock unblocks all sources: whichever is read answers, and only that.
func (c *Chain) Unblock() error {
	c.unblocked.Store(true)
	var errs []error
	for _, s := range c.sources {
		errs = append(errs, s.Unblock())
	}
	return errors.Join(errs...)
}

// Close closes all sources.
func (c *Chain) Close() error {
	var errs []error
	for _, s := range c.sources {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
