package afring

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory is a mapping of whole pages that can be exchanged while it is read.
type memory []byte

// mapRing maps the ring of a socket.
func mapRing(fd, size int) (memory, error) {
	return mapPages(fd, size, unix.MAP_SHARED|unix.MAP_POPULATE)
}

// mapPages maps size octets of fd, or of nothing for fd -1. It does not use
// unix.Mmap, which keeps a list of all mappings that detach would make wrong.
func mapPages(fd, size, flags int) (memory, error) {
	at, err := unix.MmapPtr(fd, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return unsafe.Slice((*byte)(at), size), nil
}

// detach puts memory of the process in the place of the mapping, with the octets
// from lo to hi as they are now and zeros around them. Whoever is reading there
// sees no difference, while the ring behind the mapping is let go: mremap(2)
// exchanges the two under the lock of the address space.
func (m memory) detach(lo, hi int) error {
	copied, err := mapPages(-1, len(m), unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	copy(copied[lo:hi], m[lo:hi])
	_, err = unix.MremapPtr(unsafe.Pointer(&copied[0]), uintptr(len(m)), unsafe.Pointer(&m[0]), uintptr(len(m)),
		unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED)
	if err != nil {
		copied.unmap()
		return os.NewSyscallError("mremap", err)
	}
	return nil
}

func (m memory) unmap() error {
	return os.NewSyscallError("munmap", unix.MunmapPtr(unsafe.Pointer(&m[0]), uintptr(len(m))))
}
