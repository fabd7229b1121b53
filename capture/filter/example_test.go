package filter_test

import (
	"fmt"

	"golang.org/x/net/bpf"

	"weir/capture"
	"weir/capture/filter"
)

// A program for tun devices, whose packets begin with IP, that captures headers of
// IPv4 to the transport.
func Example() {
	program, err := filter.Config{LinkType: capture.LinkNone, Length: filter.MinimalIPv4Transport}.Assemble()
	if err != nil {
		fmt.Println(err)
		return
	}
	list, _ := bpf.Disassemble(program)
	for i, in := range list {
		fmt.Printf("%2d %v\n", i, in)
	}
	// Output:
	//  0 ldb [0]
	//  1 rsh #4
	//  2 jeq #4,2
	//  3 jeq #6,7
	//  4 ja 8
	//  5 ldx 4*([0]&0xf)
	//  6 txa
	//  7 add #20
	//  8 jlt #40,1
	//  9 ret a
	// 10 ret #40
	// 11 ret #40
	// 12 ret #112
	// 13 ret #0
}
