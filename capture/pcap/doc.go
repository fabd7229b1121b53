// Package pcap reads packets from capture files and writes them.
//
// A [Reader] is a [capture.Source] over a pcap or pcapng file, plain or compressed
// with gzip or zstd, from a path, standard input or any [io.Reader]. What the file
// is, is found out from its first bytes; its name plays no part. A [Writer] makes
// pcap files with nanosecond timestamps.
//
// # What is read
//
// pcap (draft-ietf-opsawg-pcap) in both byte orders, with the magic numbers for
// microseconds and nanoseconds and the one of Alexey Kuznetsov's "modified" format,
// whose records say whom a packet was for.
//
// pcapng (draft-ietf-opsawg-pcapng) with any number of sections, each in its own
// byte order, and of interfaces, with any timestamp resolution and offset. Packets
// come from enhanced, simple and (obsolete) packet blocks. [capture.Packet.Interface]
// counts through the whole file: where the file begins each section with interface
// 0 again, Interfaces does not. Simple packets bear no time; theirs is 0.
//
// Packets of every link type are delivered. Whether they can be decoded is for the
// decoder to say.
//
// # How it is read
//
// Bytes go from read(2) into one buffer, and the packets of a batch point into
// that buffer: nothing is copied, nothing is allocated per packet. The buffer is
// small enough to stay in the processor's cache from the read to the decoder. A
// batch is handed out as soon as it has a packet, so that a pipe can be followed
// live. The file is not mapped into memory, because a file that somebody cuts
// while it is mapped kills the process with SIGBUS.
//
// # What is refused
//
// A capture file may come from anywhere, so nothing in it is believed. Memory grows
// with the data that arrive and never with a length that a file states: a record
// that is longer than 16 MiB is damage, and other blocks are passed over without
// being held. Where a file ends early or contradicts itself, the packets before
// that place are delivered, and then a [DamagedError] names the place. Input that
// is no capture at all is [ErrNotCapture].
package pcap
