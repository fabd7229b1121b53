package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// config is what the command line, the environment and the configuration file
// say, in this order of weight. config.example.yaml describes every key.
type config struct {
	v    *viper.Viper
	path string // --config
	// warn, if not nil, is told what does not keep the program from going on.
	warn func(error)
}

// defaults are all keys there are, and what they are if nobody sets them. A test
// holds config.example.yaml against it.
var defaults = map[string]any{
	"clickhouse.addr":          []string{},
	"clickhouse.tls":           false,
	"clickhouse.ca_file":       "",
	"clickhouse.cert_file":     "",
	"clickhouse.key_file":      "",
	"clickhouse.server_name":   "",
	"clickhouse.compression":   "lz4",
	"clickhouse.timeout":       time.Minute,
	"clickhouse.dial_timeout":  5 * time.Second,
	"clickhouse.database":      "weir",
	"clickhouse.user":          "",
	"clickhouse.user_file":     "",
	"clickhouse.password":      "",
	"clickhouse.password_file": "",
	"clickhouse.data":          "",
	"clickhouse.cluster":       "",
	"clickhouse.apply_schema":  false,
	"clickhouse.batch_rows":    262144,
	"clickhouse.batch_age":     time.Duration(0),
	"clickhouse.inserts":       1,
	"spool.enabled":            true,
	"spool.folder":             "",
	"spool.max_size":           "1GiB",
	"spool.max_age":            7 * 24 * time.Hour,
	"spool.full":               "oldest",
	"spool.memory":             "64MiB",
	"host":                     "",
	"output":                   "clickhouse",
	"user":                     "",
	"shutdown_timeout":         20 * time.Second,
	"interfaces.include":       []string{},
	"interfaces.exclude":       []string{},
	"interfaces.special":       []any{},
	"interfaces.hotplug":       true,
	"flows.own_export":         true,
	"capture.buffer":           "16MiB",
	"capture.snaplen":          "ipv6-transport",
	"capture.promiscuous":      false,
	"capture.vlans":            true,
	"capture.rings":            1,
	"capture.timestamps":       "software",
	"admin.listen":             "127.0.0.1:9780",
	"admin.socket":             "",
	"admin.pprof":              false,
	"log.level":                "info",
	"log.format":               "text",
	"flows.interval":           10 * time.Second,
	"flows.idle_timeout":       time.Minute,
	"flows.active_timeout":     30 * time.Minute,
	"flows.max":                4 << 20,
}

// flagKeys are the keys that have a flag on every command.
var flagKeys = map[string]string{
	"clickhouse":    "clickhouse.addr",
	"database":      "clickhouse.database",
	"user":          "clickhouse.user",
	"password-file": "clickhouse.password_file",
	"tls":           "clickhouse.tls",
	"ca-file":       "clickhouse.ca_file",
	"data":          "clickhouse.data",
}

// runFlagKeys are the keys that have a flag on weir run.
var runFlagKeys = map[string]string{
	"interface":      "interfaces.include",
	"exclude":        "interfaces.exclude",
	"output":         "output",
	"interval":       "flows.interval",
	"idle-timeout":   "flows.idle_timeout",
	"active-timeout": "flows.active_timeout",
	"max-flows":      "flows.max",
	"host":           "host",
	"buffer":         "capture.buffer",
	"promiscuous":    "capture.promiscuous",
	"listen":         "admin.listen",
	"spool":          "spool.folder",
	"log-level":      "log.level",
	"log-format":     "log.format",
}

func (c *config) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.path, "config", "", "configuration `FILE` in YAML (default /etc/weir/weir.yaml if there)")
	f.StringSlice("clickhouse", nil, "ClickHouse server as `HOST:PORT` of its native protocol; further ones are its replicas (default the local one that weir-clickhouse serves)")
	f.String("database", "weir", "ClickHouse database")
	f.String("user", "", "ClickHouse user")
	f.String("password-file", "", "`FILE` with the ClickHouse password; or set WEIR_CLICKHOUSE_PASSWORD")
	f.Bool("tls", false, "speak TLS with ClickHouse (its port is 9440, as a rule)")
	f.String("ca-file", "", "`FILE` of the CA certificates (PEM) that the server's comes from (default those of the system)")
	f.String("data", "", "`FOLDER` of the local ClickHouse server's data")
}

// boolean returns a key that is true or false, and nothing that merely looks so.
func (c *config) boolean(key string) (bool, error) {
	text := c.v.GetString(key)
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, usage("%s: %q is neither true nor false", key, text)
	}
	return b, nil
}

// file returns the path of the configuration.
func (c *config) file() string {
	if c.path != "" {
		return c.path
	}
	return systemConfig
}

// systemConfig is read if there is no --config.
const systemConfig = "/etc/weir/weir.yaml"

// load reads the configuration. An unknown key is refused by its name: a misspelt
// setting that is silently ignored is found out too late.
func (c *config) load(cmd *cobra.Command) error {
	c.v = viper.New()
	c.v.SetConfigType("yaml")
	c.v.SetEnvPrefix("WEIR")
	c.v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	c.v.AutomaticEnv()
	for k, v := range defaults {
		c.v.SetDefault(k, v)
	}
	keys := maps.Clone(flagKeys)
	switch cmd.Name() {
	case "run":
		maps.Copy(keys, runFlagKeys)
	case "check":
		maps.Copy(keys, runFlagKeys)
		delete(keys, "output") // which is about its own answer
	case "schema":
		keys["cluster"] = "clickhouse.cluster"
	}
	for flag, key := range keys {
		if f := cmd.Flags().Lookup(flag); f != nil {
			if err := c.v.BindPFlag(key, f); err != nil {
				return fmt.Errorf("bind --%s: %w", flag, err)
			}
		}
	}
	path := c.file()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && c.path == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := c.v.ReadConfig(bytes.NewReader(text)); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return c.checkKeys(path)
}

func (c *config) checkKeys(path string) error {
	var unknown []string
	for _, k := range c.v.AllKeys() {
		if _, ok := defaults[k]; !ok {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	sort.Strings(unknown)
	return fmt.Errorf("configuration %s: unknown key %s: config.example.yaml lists all keys", path, strings.Join(unknown, ", "))
}

// duration returns a key that must not be negative. The flag that sets it, if one
// does, is what an error names.
func (c *config) duration(key string, flag *pflag.Flag) (time.Duration, error) {
	s, name := c.v.GetString(key), key
	if flag != nil && flag.Changed {
		s, name = flag.Value.String(), "--"+flag.Name
	}
	d, err := time.ParseDuration(s)
	if s == "0" {
		d, err = 0, nil
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s: %q is not a time such as 10s, 1m30s or 0", name, s)
	}
	return d, nil
}

// list returns a list. In the environment its parts may be parted by commas as on the
// command line, which viper does not know of.
func (c *config) list(key string) (all []string) {
	text, one := c.v.Get(key).(string)
	if !one {
		return c.v.GetStringSlice(key)
	}
	for _, part := range strings.Split(text, ",") {
		if part != "" {
			all = append(all, part)
		}
	}
	return all
}
