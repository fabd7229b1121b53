package capture

import "iter"

// Reader reads packets one at a time from any source. It belongs to one goroutine,
// except that Unblock, Stats and Close may be called from any.
//
// There are three ways to have a packet. Borrowed (Next, NextPayloadZeroCopy,
// NextIPPacketZeroCopy, NextPacketFn), it lies where the source has it, and is valid
// until the next call of the reader. Copied into a buffer of the caller's, which
// grows if it is too small, as with append. Or copied into new memory, if that
// buffer is nil.
//
// Errors are those of the source, such as io.EOF and [ErrUnblocked].
type Reader struct {
	src     Source
	skipped uint64
	packet  Packet // of a frame

	// Of a FrameSource, what it lends.
	framed FrameSource
	frames *Frames // never nil

	// Of any other, its batch.
	batch []Packet
	next  int
}

// NewReader returns a reader of a source, which must not be read elsewhere.
func NewReader(src Source) *Reader {
	framed, _ := src.(FrameSource)
	return &Reader{src: src, framed: framed, frames: new(Frames)}
}

// Next returns the next packet, borrowed, with all that the source knows of it. It
// waits for it.
func (r *Reader) Next() (*Packet, error) {
	if h := r.frames.peek(); h != nil {
		p := &r.packet
		if p.Data = r.frames.packet(h); p.Data != nil {
			r.frames.advance(h)
			h.describe(p)
			if h.special(r.frames.link) {
				h.describeMore(p, r.frames.link)
			}
			return p, nil
		}
	}
	return r.fetch()
}

// fetch returns the next packet after the last one that was lent, or the next one of
// a source's batch.
func (r *Reader) fetch() (*Packet, error) {
	for r.framed != nil {
		var err error
		if r.frames, err = r.framed.NextFrames(); err != nil {
			r.frames = new(Frames)
			return nil, err
		}
		r.packet.LinkType = r.frames.link
		if r.frames.left > 0 {
			return r.Next()
		}
	}
	for r.next >= len(r.batch) {
		var err error
		r.next = 0
		if r.batch, err = r.src.NextBatch(); err != nil {
			return nil, err
		}
	}
	r.next++
	return &r.batch[r.next-1], nil
}

// Packets yields packet after packet, borrowed, and at last the error that ends them.
func (r *Reader) Packets() iter.Seq2[*Packet, error] {
	return func(yield func(*Packet, error) bool) {
		for {
			p, err := r.Next()
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// NextPacketFn calls fn with the next packet, borrowed, and returns fn's error.
func (r *Reader) NextPacketFn(fn func(p *Packet) error) error {
	// As Next, the call of which would take a sixth longer (BenchmarkReader of
	// capture/mock).
	if h := r.frames.peek(); h != nil {
		p := &r.packet
		if p.Data = r.frames.packet(h); p.Data != nil {
			r.frames.advance(h)
			h.describe(p)
			if h.special(r.frames.link) {
				h.describeMore(p, r.frames.link)
			}
			return fn(p)
		}
	}
	p, err := r.fetch()
	if err != nil {
		return err
	}
	return fn(p)
}

// NextPayloadZeroCopy returns the next packet's bytes from the link layer on,
// borrowed, whom it was for, and its length on the wire in octets.
func (r *Reader) NextPayloadZeroCopy() (payload []byte, t PacketType, wireLen uint32, err error) {
	if h := r.frames.peek(); h != nil {
		if data := r.frames.packet(h); data != nil {
			r.frames.advance(h)
			return data, PacketType(h.pkttype), h.length, nil
		}
	}
	p, err := r.fetch()
	if err != nil {
		return nil, PacketUnknown, 0, err
	}
	return p.Data, p.Type, p.WireLen, nil
}

// NextIPPacketZeroCopy is NextPayloadZeroCopy from the IP header on; the length on
// the wire still is that of the whole packet. Packets without IP are passed over,
// and counted by Skipped.
func (r *Reader) NextIPPacketZeroCopy() (ip []byte, t PacketType, wireLen uint32, err error) {
	if h := r.frames.peek(); h != nil {
		if data := r.frames.packet(h); plain(data, r.frames.link) {
			r.frames.advance(h)
			return data[ethernetLen:], PacketType(h.pkttype), h.length, nil
		}
	}
	for {
		p, err := r.Next()
		if err != nil {
			return nil, PacketUnknown, 0, err
		}
		if ip := p.IP(); ip != nil {
			return ip, p.Type, p.WireLen, nil
		}
		r.skipped++
	}
}

// Skipped returns how many packets the methods for IP packets have passed over.
func (r *Reader) Skipped() uint64 { return r.skipped }

// maxBuffer bounds the buffers of NewPacket: they grow when they have to.
const maxBuffer = 256 << 10

// NewPacket returns a packet for NextPacket to copy into, with room for as much as
// the source captures of one.
func (r *Reader) NewPacket() Packet {
	size := uint32(2048)
	if s, ok := r.src.(interface{ CaptureLength() uint32 }); ok {
		size = s.CaptureLength()
	}
	return Packet{Data: make([]byte, 0, min(size, maxBuffer))}
}

// NextPacket makes p a copy of the next packet, in the memory of p.Data if it is large
// enough, else in new memory. If there is an error it leaves p as it is.
func (r *Reader) NextPacket(p *Packet) error {
	next, err := r.Next()
	if err != nil {
		return err
	}
	data := copyInto(p.Data, next.Data)
	*p = *next
	p.Data = data
	return nil
}

// NextPayload is NextPayloadZeroCopy with a copy in the memory of buf.
func (r *Reader) NextPayload(buf []byte) (payload []byte, t PacketType, wireLen uint32, err error) {
	payload, t, wireLen, err = r.NextPayloadZeroCopy()
	if err != nil {
		return buf, t, wireLen, err
	}
	return copyInto(buf, payload), t, wireLen, nil
}

// NextIPPacket is NextIPPacketZeroCopy with a copy in the memory of buf.
func (r *Reader) NextIPPacket(buf []byte) (ip []byte, t PacketType, wireLen uint32, err error) {
	ip, t, wireLen, err = r.NextIPPacketZeroCopy()
	if err != nil {
		return buf, t, wireLen, err
	}
	return copyInto(buf, ip), t, wireLen, nil
}

// copyInto returns a copy of data in the memory of buf, or in new memory that fits.
func copyInto(buf, data []byte) []byte {
	if cap(buf) < len(data) || buf == nil {
		fresh := make([]byte, len(data)) // which the compiler does not clear before
		copy(fresh, data)
		return fresh
	}
	buf = buf[:len(data)]
	copy(buf, data)
	return buf
}

// Link returns the source's first interface: the one there is, unless it is a file.
func (r *Reader) Link() Interface {
	if all := r.src.Interfaces(); len(all) > 0 {
		return all[0]
	}
	return Interface{}
}

// Stats returns the source's counts. Packets that it has delivered may still be in
// the reader.
func (r *Reader) Stats() Stats { return r.src.Stats() }

// Unblock makes the call that waits for a packet return [ErrUnblocked], or else one
// of the next: what the source has delivered already, at most 256 packets, comes
// first.
func (r *Reader) Unblock() error { return r.src.Unblock() }

// Close closes the source. A call that waits for a packet returns [ErrClosed].
func (r *Reader) Close() error { return r.src.Close() }
