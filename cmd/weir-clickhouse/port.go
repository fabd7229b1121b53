//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// reservation holds a port for the engine, which has to be told numbers, from
// before it starts until it listens. Linux lets two sockets with SO_REUSEADDR bind
// one port while neither listens, but gives that port to nobody who asks for a free
// one (inet_csk_bind_conflict in net/ipv4/inet_connection_sock.c).
type reservation struct {
	fd   int
	port int
	addr string // host:port
}

// reservePort reserves port, or a free one if port is 0. flag is what chose it.
func reservePort(host string, port uint16, flag string) (reservation, error) {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return reservation{}, fmt.Errorf("listen: %w", err)
	}
	want := netip.AddrPortFrom(ip, port)
	fd, got, err := bindPort(want)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return reservation{}, fmt.Errorf("port %d of %s is taken by another program, perhaps a ClickHouse server that runs already: "+
			"choose another with %s, 0 for a free one", port, host, flag)
	case err != nil:
		return reservation{}, fmt.Errorf("reserve %s: %w: choose another port with %s, 0 for a free one", want, err, flag)
	}
	return reservation{fd: fd, port: got, addr: netip.AddrPortFrom(ip, uint16(got)).String()}, nil
}

// release gives the port up to the engine, which listens on it now.
func (r *reservation) release() { unix.Close(r.fd) }

func bindPort(addr netip.AddrPort) (fd, port int, err error) {
	family := unix.AF_INET
	var sa unix.Sockaddr
	if ip := addr.Addr().Unmap(); ip.Is4() {
		sa = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		if err = unix.Bind(fd, sa); err == nil {
			sa, err = unix.Getsockname(fd)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, portOf(sa), nil
}

// portOf returns the TCP port of a socket's address, 0 if it has none.
func portOf(sa unix.Sockaddr) int {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return sa.Port
	case *unix.SockaddrInet6:
		return sa.Port
	}
	return 0
}
