//go:build linux && amd64

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"text/template"
)

// Names of the two users, and the network that they may come from.
const (
	userName   = "weir"
	readerName = "weir_reader"
)

// serverConfig is ClickHouse's config.xml for a small server beside other programs.
//
// The system database lives in memory, so that system tables do not outlast the
// process; only query_log is of use here, the others are not configured and thus
// not written.
var serverConfig = newTemplate(`<clickhouse>
  <logger>
    <log>{{.Logs}}/server.log</log>
    <size>10M</size>
    <count>1</count>
    <console>false</console>
  </logger>
  <users_config>{{.UsersFile}}</users_config>
  <timezone>UTC</timezone>
  <max_server_memory_usage>{{.Memory}}</max_server_memory_usage>
  <max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>
  <mark_cache_size>67108864</mark_cache_size>
  <index_mark_cache_size>16777216</index_mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <mmap_cache_size>100</mmap_cache_size>
  <compiled_expression_cache_size>16777216</compiled_expression_cache_size>
  <background_schedule_pool_size>16</background_schedule_pool_size>
  <max_connections>256</max_connections>
  <max_concurrent_queries>64</max_concurrent_queries>
  <query_log>
    <database>system</database>
    <table>query_log</table>
    <ttl>event_date + INTERVAL 1 DAY DELETE</ttl>
    <flush_interval_milliseconds>7500</flush_interval_milliseconds>
  </query_log>
{{- with .Cluster}}
  <remote_servers>
    <{{.Name}}>
      <secret>{{.Secret}}</secret>
{{- range .Shards}}
      <shard>
        <internal_replication>true</internal_replication>
        <replica><host>{{.Host}}</host><port>{{.Port}}</port></replica>
      </shard>
{{- end}}
    </{{.Name}}>
  </remote_servers>
{{- end}}
</clickhouse>
`)

// usersConfig is ClickHouse's users.xml.
//
// The engine's own session is always user "default", without a password, from
// 127.0.0.1; it is opened before the ports are. Allowing that user one session at
// a time thus keeps everybody else out of it. It may do no more than the queries in
// serveQueries need.
//
// "weir" owns the databases but gets no access to files, URLs and other servers
// (SOURCES). "weir_reader" may read tables; readonly = 2 because clients send
// settings with their queries, time limits for example.
var usersConfig = newTemplate(`<clickhouse>
  <profiles>
    <default>
      <async_insert>0</async_insert>
    </default>
    <inside>
      <max_sessions_for_user>1</max_sessions_for_user>
    </inside>
    <reader>
      <readonly>2</readonly>
      <max_execution_time>300</max_execution_time>
    </reader>
  </profiles>
  <quotas>
    <default/>
  </quotas>
  <users>
    <default>
      <password/>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>inside</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SYSTEM LISTEN ON *.*</query>
        <query>GRANT CREATE TEMPORARY TABLE ON *.*</query>
        <query>GRANT READ ON FILE</query>
      </grants>
    </default>
    <weir>
      <password_sha256_hex>{{.Password}}</password_sha256_hex>
      <networks><ip>127.0.0.0/8</ip><ip>::1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT CHECK, SHOW, SELECT, INSERT, ALTER, CREATE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, KILL QUERY, SYSTEM, dictGet, INTROSPECTION ON *.*</query>
        <query>GRANT TABLE ENGINE ON *</query>
{{- if .Cluster}}
        <query>GRANT REMOTE ON *.*</query>
{{- end}}
      </grants>
    </weir>
    <weir_reader>
      <password_sha256_hex>{{.ReaderPassword}}</password_sha256_hex>
      <networks><ip>127.0.0.0/8</ip><ip>::1</ip></networks>
      <profile>reader</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SHOW, SELECT, dictGet ON *.*</query>
        <query>GRANT CREATE TEMPORARY TABLE ON *.*</query>
      </grants>
    </weir_reader>
  </users>
</clickhouse>
`)

func newTemplate(text string) *template.Template {
	return template.Must(template.New("config").Parse(text))
}

// settings are what the templates are filled with.
type settings struct {
	Logs, UsersFile, Memory  string
	Password, ReaderPassword string // hashed
	Cluster                  *cluster
}

// expand fills in a template. What is not made of letters and digits alone is
// escaped for XML: paths are the user's.
func expand(t *template.Template, s settings) ([]byte, error) {
	if s.Cluster != nil {
		c := *s.Cluster
		s.Cluster = &c
	}
	for _, text := range s.texts() {
		var b bytes.Buffer
		if err := xml.EscapeText(&b, []byte(*text)); err != nil {
			return nil, fmt.Errorf("write the server's configuration: %w", err)
		}
		*text = b.String()
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return nil, fmt.Errorf("write the server's configuration: %w", err)
	}
	return b.Bytes(), nil
}

// texts returns what is to be escaped.
func (s *settings) texts() []*string {
	texts := []*string{&s.Logs, &s.UsersFile}
	if s.Cluster != nil {
		texts = append(texts, &s.Cluster.Secret)
	}
	return texts
}

func hashPassword(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}
