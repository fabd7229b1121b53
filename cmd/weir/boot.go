package main

import (
	"os"
	"strings"
)

// bootID returns the kernel's random name for this boot of the host, "" if it does not
// tell: then nobody learns from the ledger that the host was rebooted.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
