package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows says which of our packages each of them may import. CONTRIBUTING.md
// draws it.
var arrows = map[string][]string{
	"weir/capture":                             {},
	"weir/capture/pcap":                        {"weir/capture"},
	"weir/capture/filter":                      {"weir/capture"},
	"weir/capture/link":                        {"weir/capture"},
	"weir/capture/socket":                      {"weir/capture", "weir/capture/filter", "weir/capture/link"},
	"weir/capture/afring":                      {"weir/capture", "weir/capture/filter", "weir/capture/link", "weir/capture/socket"},
	"weir/capture/afpacket":                    {"weir/capture", "weir/capture/filter", "weir/capture/link", "weir/capture/socket"},
	"weir/internal/lack":                       {},
	"weir/capture/capturetest":                 {"weir/capture", "weir/capture/link", "weir/internal/lack"},
	"weir/capture/mock":                        {"weir/capture", "weir/capture/afpacket", "weir/capture/afring", "weir/capture/filter", "weir/capture/socket"},
	"weir/flows":                               {"weir/capture"},
	"weir/exporter":                            {"weir/flows"},
	"weir/exporter/jsonl":                      {"weir/exporter", "weir/flows"},
	"weir/exporter/table":                      {"weir/exporter", "weir/flows"},
	"weir/exporter/clickhouse":                 {"weir/exporter", "weir/exporter/spool", "weir/flows"},
	"weir/exporter/clickhouse/local":           {},
	"weir/exporter/clickhouse/local/localtest": {"weir/exporter/clickhouse/local"},
	"weir/agent":                               {"weir/capture", "weir/capture/afring", "weir/capture/link", "weir/flows", "weir/exporter"},
	"weir/privileges":                          {},
	"weir/notify":                              {},
	"weir/deploy":                              {},
	"weir/cmd/weir-clickhouse":                 {"weir/exporter/clickhouse/local"},
	"weir/cmd/weir": {
		"weir/agent", "weir/privileges", "weir/notify", "weir/capture/socket", "weir/capture", "weir/capture/afring", "weir/capture/filter", "weir/capture/link", "weir/capture/pcap", "weir/flows", "weir/exporter", "weir/exporter/jsonl", "weir/exporter/table",
		"weir/exporter/clickhouse", "weir/exporter/clickhouse/local", "weir/testdata",
	},
}

// reserved says which packages alone may import something.
var reserved = map[string]string{
	"github.com/spf13/viper":       "weir/cmd/weir",
	"github.com/ebitengine/purego": "weir/cmd/weir-clickhouse",
	"github.com/ClickHouse/":       "weir/exporter/clickhouse",
}

// unsafe says who may import it: who calls into the ClickHouse library, who reads what
// the kernel writes, and who hands capabilities to all threads.
var unsafe = []string{"weir/cmd/weir-clickhouse", "weir/capture", "weir/capture/afring", "weir/capture/afpacket", "weir/privileges"}

// TestArrows pins who may import whom, and who may import unsafe.
func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "weir/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		allowed, ok := arrows[p.ImportPath]
		if !ok {
			t.Errorf("package %s is not in the picture: add it to arrows and to CONTRIBUTING.md", p.ImportPath)
		}
		for _, i := range p.Imports {
			if strings.HasPrefix(i, "weir/") && !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
			for prefix, owner := range reserved {
				if strings.HasPrefix(i, prefix) && p.ImportPath != owner {
					t.Errorf("%s imports %s, which is for %s alone", p.ImportPath, i, owner)
				}
			}
			if i == "unsafe" && !slices.Contains(unsafe, p.ImportPath) {
				t.Errorf("%s imports unsafe", p.ImportPath)
			}
		}
	}
	if seen != len(arrows) {
		t.Errorf("%d packages, the picture has %d", seen, len(arrows))
	}
}
