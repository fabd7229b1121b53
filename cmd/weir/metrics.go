package main

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"weir/agent"
	"weir/exporter/clickhouse"
	"weir/exporter/spool"
	"weir/flows"
)

// metrics tells Prometheus how an agent is. It asks when it is asked: nothing is kept
// twice.
type metrics struct {
	agent   *agent.Agent
	forward *clickhouse.Forwarder // nil if records go elsewhere
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("weir_"+name, help, labels, nil)
}

var (
	descUp = desc("interface_up", "1 if the interface is captured on.", "interface")
	descRx = desc("packets_total", "Packets delivered to the meter, super-packets as one, up to now.", "interface")

	descWire     = desc("wire_packets_total", "Packets as they were on the wire, up to the last interval.", "interface")
	descMetered  = desc("metered_packets_total", "Packets counted in flows, up to the last interval.", "interface")
	descOctets   = desc("metered_octets_total", "IP octets counted in flows, up to the last interval.", "interface")
	descCauses   = desc("unmetered_packets_total", "Packets that are in no flow, by cause, up to the last interval.", "interface", "cause", "kind")
	descOverflow = desc("overflow_packets_total", "Metered packets that lost their detail because the flow table was full.", "interface")
	descRecords  = desc("records_total", "Records made.", "interface")
	descDrops    = desc("drops_total", "Packets that the kernel dropped because the ring was full, up to now.", "interface")
	descFreezes  = desc("freezes_total", "Times that the ring stood still because it was full, up to now.", "interface")
	descFlows    = desc("table_flows", "Keys in the flow table of the last interval.", "interface")
	descMost     = desc("table_flows_max", "Keys that a flow table may hold.", "interface")

	descBegun    = desc("flows_total", "Flows begun.")
	descExported = desc("exported_records_total", "Records handed to the output.")
	descBehind   = desc("export_behind", "1 if the output takes longer than an interval.")
	descRotation = desc("rotation_seconds", "How long the packets of a ring wait while its table is exchanged.")
	descCut      = desc("cut_seconds", "Taking the tables of all rings.")

	descAcknowledged = desc("acknowledged_records_total", "Records that ClickHouse has acknowledged.")
	descOutage       = desc("clickhouse_up", "1 if ClickHouse takes records, 0 while they wait.")
	descRefused      = desc("refused_batches_total", "Batches that ClickHouse would not have for what they hold; they are set aside.")
	descWaiting      = desc("spool_records", "Records that wait for ClickHouse.")
	descBytes        = desc("spool_bytes", "Octets that the spool takes on disk.")
	descMaxBytes     = desc("spool_max_bytes", "Octets that the spool may take on disk.")
	descMemory       = desc("spool_memory_bytes", "Octets that wait in memory alone.")
	descOldest       = desc("spool_oldest_seconds", "How long the oldest records have waited.")
	descDisk         = desc("spool_disk_up", "1 if the spool's disk takes records.")
	descAside        = desc("spool_aside_files", "Files that were set aside, damaged or refused.")
	descFailures     = desc("spool_failures_total", "Times that the spool's disk has failed.")
	descGivenUp      = desc("lost_records_total", "Records that are not in ClickHouse and will not be, by reason.", "reason")

	descFlush = desc("flush_seconds", "Making the records of an interval and handing them to the output.")
)

// Describe sends nothing: what there is to measure depends on the interfaces.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics as they are.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	s := m.agent.Status()
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	truth := map[bool]float64{true: 1}
	seen := map[string]bool{}
	for i := range s.Interfaces {
		f := &s.Interfaces[i]
		f.Name = strings.ToValidUTF8(f.Name, "\ufffd") // or the library panics
		if seen[f.Name] {                              // renamed to and fro within an interval: one of them tells
			continue
		}
		seen[f.Name] = true
		gauge(descUp, truth[f.Err == nil], f.Name)
		if f.Err != nil {
			continue
		}
		counter(descRx, f.Stats.Packets, f.Name)
		counter(descDrops, f.Stats.Drops, f.Name)
		counter(descFreezes, f.Stats.Freezes, f.Name)
		counter(descWire, f.Ledger.Packets, f.Name)
		counter(descMetered, f.Ledger.Metered, f.Name)
		counter(descOctets, f.Ledger.Octets, f.Name)
		counter(descOverflow, f.Ledger.Overflow, f.Name)
		counter(descRecords, f.Ledger.Records, f.Name)
		for v, n := range f.Ledger.Causes {
			if n > 0 {
				kind := "not_ip"
				if flows.Verdict(v).IsError() {
					kind = "error"
				}
				counter(descCauses, n, f.Name, flows.Verdict(v).String(), kind)
			}
		}
		gauge(descFlows, float64(f.Flows), f.Name)
		gauge(descMost, float64(f.Most), f.Name)
	}
	counter(descBegun, s.Flows)
	counter(descExported, s.Exported)
	gauge(descBehind, truth[s.Behind])
	if m.forward != nil {
		f := m.forward.Stats()
		counter(descAcknowledged, f.Acknowledged)
		counter(descRefused, f.Refused)
		gauge(descOutage, truth[f.Err == nil])
		gauge(descWaiting, float64(f.Spool.Records))
		gauge(descBytes, float64(f.Spool.Bytes))
		gauge(descMaxBytes, float64(f.Spool.MaxBytes))
		gauge(descMemory, float64(f.Spool.Memory))
		gauge(descOldest, f.Spool.Waited().Seconds())
		gauge(descDisk, truth[f.Spool.Err == nil])
		gauge(descAside, float64(f.Spool.Aside))
		counter(descFailures, f.Spool.Failures)
		for reason, n := range f.Spool.GivenUp {
			if reason > 0 {
				counter(descGivenUp, n, spool.Reason(reason).String())
			}
		}
		counter(descGivenUp, f.Spool.Lost, "memory")
	}
	for d, h := range map[*prometheus.Desc]agent.Histogram{descRotation: s.Rotations, descCut: s.Cuts, descFlush: s.Flushes} {
		out <- prometheus.MustNewConstHistogram(d, h.Count, h.Sum.Seconds(), h.Buckets)
	}
}
