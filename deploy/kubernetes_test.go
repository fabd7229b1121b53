package deploy_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// strict decodes a document into a struct that has the parts that matter here.
func strict[T any](t *testing.T, doc *yaml.Node) (v T) {
	t.Helper()
	if err := doc.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestKubernetes(t *testing.T) {
	type probe struct {
		HTTPGet struct{ Host, Path, Port string } `yaml:"httpGet"`
	}
	type daemonSet struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					HostNetwork        bool   `yaml:"hostNetwork"`
					HostPID            bool   `yaml:"hostPID"`
					HostIPC            bool   `yaml:"hostIPC"`
					DNSPolicy          string `yaml:"dnsPolicy"`
					ServiceAccountName string `yaml:"serviceAccountName"`
					Token              *bool  `yaml:"automountServiceAccountToken"`
					Grace              int    `yaml:"terminationGracePeriodSeconds"`
					SecurityContext    struct {
						RunAsNonRoot bool `yaml:"runAsNonRoot"`
						RunAsUser    int  `yaml:"runAsUser"`
						FSGroup      int  `yaml:"fsGroup"`
						Seccomp      struct{ Type string }
					} `yaml:"securityContext"`
					InitContainers []any `yaml:"initContainers"`
					Containers     []struct {
						Ports []struct {
							Name          string
							ContainerPort int `yaml:"containerPort"`
							HostPort      int `yaml:"hostPort"`
						}
						SecurityContext struct {
							Privileged   bool
							Escalation   *bool `yaml:"allowPrivilegeEscalation"`
							ReadOnly     bool  `yaml:"readOnlyRootFilesystem"`
							RunAsUser    *int  `yaml:"runAsUser"`
							Capabilities struct{ Drop, Add []string }
						} `yaml:"securityContext"`
						Startup   probe `yaml:"startupProbe"`
						Liveness  probe `yaml:"livenessProbe"`
						Readiness probe `yaml:"readinessProbe"`
						Resources struct{ Requests, Limits map[string]string }
						Mounts    []struct {
							Name string
							Path string `yaml:"mountPath"`
						} `yaml:"volumeMounts"`
					}
					Volumes []struct {
						Name      string
						ConfigMap *struct{ Name string } `yaml:"configMap"`
						Secret    *struct {
							Name string `yaml:"secretName"`
							Mode int    `yaml:"defaultMode"`
						}
						HostPath any `yaml:"hostPath"`
					}
				}
			}
		}
	}
	var set daemonSet
	var config map[string]string
	names := map[string]string{}
	for d := yaml.NewDecoder(strings.NewReader(read(t, "kubernetes/daemonset.yaml"))); ; {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		head := strict[struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
		}](t, &doc)
		names[head.Kind] = head.Metadata.Name
		if head.Kind != "Namespace" && head.Metadata.Namespace != "weir" {
			t.Errorf("%s is in namespace %q", head.Kind, head.Metadata.Namespace)
		}
		switch head.Kind {
		case "DaemonSet":
			set = strict[daemonSet](t, &doc)
		case "ConfigMap":
			config = strict[struct{ Data map[string]string }](t, &doc).Data
		case "ServiceAccount":
			if token := strict[struct {
				Token *bool `yaml:"automountServiceAccountToken"`
			}](t, &doc).Token; token == nil || *token {
				t.Error("the ServiceAccount has a token")
			}
		}
	}
	pod := set.Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.InitContainers) > 0 {
		t.Fatalf("%d containers", len(pod.Containers))
	}
	c := pod.Containers[0]
	for what, ok := range map[string]bool{
		"hostNetwork, and nothing else of the host": pod.HostNetwork && !pod.HostPID && !pod.HostIPC,
		"names of Services":                         pod.DNSPolicy == "ClusterFirstWithHostNet",
		"no token":                                  pod.Token != nil && !*pod.Token && pod.ServiceAccountName == names["ServiceAccount"],
		"not privileged":                            !c.SecurityContext.Privileged && c.SecurityContext.Escalation != nil && !*c.SecurityContext.Escalation,
		"drops all capabilities":                    slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}),
		"adds NET_RAW alone":                        slices.Equal(c.SecurityContext.Capabilities.Add, []string{"NET_RAW"}),
		"read-only":                                 c.SecurityContext.ReadOnly,
		"not root": pod.SecurityContext.RunAsNonRoot && c.SecurityContext.RunAsUser == nil &&
			strconv.Itoa(pod.SecurityContext.RunAsUser) == imageUser(t),
		"limit of memory, none of CPU":     c.Resources.Limits["memory"] != "" && c.Resources.Limits["cpu"] == "" && len(c.Resources.Requests) == 2,
		"selects its pods":                 len(set.Spec.Selector.MatchLabels) > 0 && fmt.Sprint(set.Spec.Selector.MatchLabels) == fmt.Sprint(set.Spec.Template.Metadata.Labels),
		"one port":                         len(c.Ports) == 1,
		"the ConfigMap has the one file":   len(config) == 1 && config["weir.yaml"] != "",
		"the password is in no ConfigMap":  !strings.Contains(config["weir.yaml"], "password:"),
		"the Secret is not in this file":   names["Secret"] == "",
		"a namespace that allows all this": names["Namespace"] == "weir",
	} {
		if !ok {
			t.Errorf("does not hold: %s", what)
		}
	}
	longerThanShutdown(t, "terminationGracePeriodSeconds", strconv.Itoa(pod.Grace)+"s")

	// The kubelet asks where weir listens if nothing else is configured.
	known, used := keys(t, read(t, "../config.example.yaml")), keys(t, config["weir.yaml"])
	host, port, err := net.SplitHostPort(fmt.Sprint(known["admin.listen"]))
	if err != nil || strconv.Itoa(c.Ports[0].ContainerPort) != port || c.Ports[0].HostPort != c.Ports[0].ContainerPort {
		t.Errorf("port %+v, admin.listen is %v", c.Ports, known["admin.listen"])
	}
	for path, p := range map[string][]probe{"/healthz": {c.Startup, c.Liveness}, "/readyz": {c.Readiness}} {
		for _, p := range p {
			if p.HTTPGet.Host != host || p.HTTPGet.Path != path || p.HTTPGet.Port != c.Ports[0].Name {
				t.Errorf("probe %+v, want %s on %s", p, path, host)
			}
		}
	}
	for k := range used {
		if _, ok := known[k]; !ok {
			t.Errorf("%s is no key of config.example.yaml", k)
		}
	}
	mounts := map[string]string{}
	for _, m := range c.Mounts {
		mounts[m.Name] = m.Path
	}
	if len(pod.Volumes) != len(mounts) {
		t.Errorf("%d volumes, %d mounts", len(pod.Volumes), len(mounts))
	}
	for _, v := range pod.Volumes {
		switch path := mounts[v.Name]; {
		case path == "" || v.HostPath != nil:
			t.Errorf("volume %s: mounted on %q, of the host %v", v.Name, path, v.HostPath)
		case v.ConfigMap != nil && (v.ConfigMap.Name != names["ConfigMap"] || path != "/etc/weir"):
			t.Errorf("ConfigMap %s on %s", v.ConfigMap.Name, path)
		case v.Secret != nil:
			// README.md makes it.
			command := "secret generic " + v.Secret.Name + " --from-file=" + filepath.Base(fmt.Sprint(used["clickhouse.password_file"])) + "="
			if fmt.Sprint(used["clickhouse.password_file"]) != path+"/password" || !strings.Contains(read(t, "README.md"), command) || v.Secret.Mode != 0o440 {
				t.Errorf("secret %+v on %s, the password is in %v", v.Secret, path, used["clickhouse.password_file"])
			}
		}
	}
}
