package filter_test

// tcpdump returns a program that tcpdump made.
func tcpdump(t testing.TB, expression string) []bpf.RawInstruction {
	t.Helper()
	out, err := exec.Command("tcpdump", "-y", "EN10MB", "-ddd", expression).Output()
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip("tcpdump is not installed")
		}
		t.Fatal(err)
	}
	program, err := filter.ParseDDD(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestExtra counts packets with programs of tcpdump's, and with tcpdump.
func TestExtra(t *testing.T) {
	const path = "../../testdata/web.pcap"
	for _, expression := range []string{"tcp port 443", "udp", "ip6", "tcp[tcpflags] & tcp-syn != 0", "len > 500", "not tcp and not udp", "host 10.99.1.10 or greater 1000"} {
		program := tcpdump(t, expression)
		out, err := exec.Command("tcpdump", "-nr", path, "--count", expression).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want int
		if _, err := fmt.Sscanf(string(out), "%d", &want); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		for _, length := range lengths {
			_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: length, All: true, Extra: program})
			r, err := pcap.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for {
				batch, err := r.NextBatch()
				if err != nil {
					break
				}
				for _, p := range batch {
					if vm.Run(p.Data, metadata(&p)) > 0 {
						got++
					}
				}
			}
			r.Close()
			if got != want {
				t.Errorf("%q, %v: %d packets, tcpdump has %d", expression, length, got, want)
			}
		}
	}
}

// TestFarJumps puts a program before ours that its jumps cannot cross in one step.
func TestFarJumps(t *testing.T) {
	var extra []bpf.RawInstruction
	for i := range 2000 { // refuse packets whose octet 40 is 2000..., which is none
		extra = append(extra, bpf.RawInstruction{Op: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 40},
			bpf.RawInstruction{Op: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: uint32(2000 + i)},
			bpf.RawInstruction{Op: unix.BPF_RET | unix.BPF_K, K: 0})
		if len(extra) > 3000 {
			break
		}
	}
	extra = append(extra, bpf.RawInstruction{Op: unix.BPF_LD | unix.BPF_IMM, K: 5}, bpf.RawInstruction{Op: unix.BPF_RET | unix.BPF_A})
	_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv4Transport, Extra: extra})
	p := samples()[0].p
	if n := vm.Run(p.Data, metadata(&p)); n != 54 {
		t.Fatalf("%d octets", n)
	}
	if _, err := (filter.Config{LinkType: capture.LinkEthernet, Extra: append(extra, extra...)}).Assemble(); err == nil {
		t.Fatal("a program that the kernel does not take")
	}
}

func TestParseDDD(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "empty",
		"x":                      "line 1",
		"0\n":                    "line 1",
		"5000\n":                 "line 1",
		"1\n6 0 0\n":             "line 2",
		"1\n6 0 0 1 9\n":         "line 2",
		"2\n6 0 0 1\n":           "ends after 1 of the 2",
		"1\n6 0 0 1\n6 0 0 1":    "line 3",
		"1\n999 0 0 1\n":         "code 999",
		"2\n21 5 0 1\n6 0 0 1\n": "jumps out",
		"2\n5 0 0 1\n6 0 0 1\n":  "jumps out",
		"2\n52 0 0 0\n6 0 0 1\n": "divides by zero",
		"2\n2 0 0 16\n6 0 0 1\n": "scratch",
		"1\n0 0 0 1\n":           "return",
	} {
		if _, err := filter.ParseDDD(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParseDDD gives the parser anything; what it takes can be assembled and run.
func FuzzParseDDD(f *testing.F) {
	f.Add("1\n6 0 0 262144\n")
	f.Add("4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n")
	f.Add("3\n32 0 0 4294963200\n2 0 0 3\n22 0 0 0\n")
	data := samples()[0].p
	f.Fuzz(func(t *testing.T, text string) {
		program, err := filter.ParseDDD(strings.NewReader(text))
		if err != nil {
			return
		}
		own, err := filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport}.Assemble()
		if err != nil {
			t.Fatal(err)
		}
		both, err := filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, Extra: program}.Assemble()
		if err != nil {
			if len(program) > 1000 {
				return // too long with what is ours
			}
			t.Fatal(err)
		}
		results := map[string]uint32{}
		for name, p := range map[string][]bpf.RawInstruction{"extra": program, "own": own, "both": both} {
			vm, err := filter.NewVM(p)
			if err != nil {
				return // an extension or instruction that is not simulated
			}
			results[name] = vm.Run(data.Data, metadata(&data))
		}
		if want := results["own"]; results["extra"] == 0 && results["both"] != 0 || results["extra"] != 0 && results["both"] != want {
			t.Fatalf("%v", results)
		}
	})
}
