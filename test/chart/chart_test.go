package chart

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const directory = "../../charts/shale"

// helm runs helm and returns what it wrote.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program := os.Getenv("HELM")
	if program == "" {
		t.Skip("HELM names no helm: try HELM=$(go run ./hack/toolbox/build helm), or make unit")
	}
	readChart(t)
	var out, errs bytes.Buffer
	c := exec.CommandContext(t.Context(), program, args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", errors.New(errs.String() + out.String())
	}
	return out.String(), nil
}

// readChart reads what helm will read: Go runs a test again only if a file has changed that the test itself has read.
func readChart(t *testing.T) {
	t.Helper()
	for _, root := range []string{directory, "testdata"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// object has the parts of all kinds that the tests look at.
type object struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Rules []rbacv1.PolicyRule `json:"rules"`

	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets"`

	Spec struct {
		Selector *metav1.LabelSelector     `json:"selector"`
		Template corev1.PodTemplateSpec    `json:"template"`
		Strategy appsv1.DeploymentStrategy `json:"strategy"`

		UpdateStrategy appsv1.DaemonSetUpdateStrategy `json:"updateStrategy"`

		UnhealthyPodEvictionPolicy policyv1.UnhealthyPodEvictionPolicyType `json:"unhealthyPodEvictionPolicy"`
	} `json:"spec"`
}

func (o *object) isWorkload() bool { return o.Kind == "Deployment" || o.Kind == "DaemonSet" }

func render(t *testing.T, set ...string) []object {
	t.Helper()
	args := []string{"template", "shale", directory, "--namespace", "shale-system"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	text, err := helm(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	var all []object
	for {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.Kind != "" {
			all = append(all, o)
		}
	}
}

func find(t *testing.T, all []object, kind, name string) *object {
	t.Helper()
	for i := range all {
		if all[i].Kind == kind && all[i].Name == name {
			return &all[i]
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return nil
}

func TestTheChartLints(t *testing.T) {
	if _, err := helm(t, "lint", "--strict", directory); err != nil {
		t.Error(err)
	}
}

func TestTheSchemaRefusesWhatWouldBeIgnoredOrCannotWork(t *testing.T) {
	for value, names := range map[string]string{
		"storeNode.port=1":               "storeNode",
		"storenode.prot=1":               "prot",
		"storenode.port=0":               "port",
		"image.pullPolicy=Maybe":         "pullPolicy",
		"kubeletDir=var":                 "kubeletDir",
		"imageRegistry=reg/":             "imageRegistry",
		"sidecars.retryIntervalMax=soon": "retryIntervalMax",
		"operator.replicas=0":            "replicas",
		"storenode.memoryMiB=3":          "memoryMiB",
		"controller.replicas=0":          "replicas",
		"holder.logLevel=loud":           "logLevel",
		"imagePullSecrets[0]=registry":   "imagePullSecrets",
		"storageClasses[0].name=a,storageClasses[0].volumeBindingMode=Never,storageClasses[0].parameters.pool=p": "Mode",
		"storageClasses[0].name=a,storageClasses[0].parameters.pool=p,storageClasses[0].parameters.stripe=4":     "stripe",
		"storageClasses[0].name=a,storageClasses[0].parameters.replicas=3":                                       "pool",
	} {
		_, err := helm(t, "template", "shale", directory, "--set", value)
		if err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s: want a refusal that names %s, got %v", value, names, err)
		}
	}
}

func TestOnlyWhatTouchesTheNodeIsPrivileged(t *testing.T) {
	var privileged, seen []string
	for _, o := range render(t) {
		if !o.isWorkload() {
			continue
		}
		for _, c := range o.Spec.Template.Spec.Containers {
			name := o.Name + "/" + c.Name
			seen = append(seen, name)
			s := c.SecurityContext
			switch {
			case s == nil:
				t.Errorf("%s: no securityContext", name)
			case s.Privileged != nil && *s.Privileged:
				privileged = append(privileged, name)
			case s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.Capabilities == nil:
				t.Errorf("%s: has more than it needs", name)
			}
		}
	}
	slices.Sort(privileged)
	want := []string{"shale-initiator/initiator", "shale-node/driver", "shale-storenode/storenode"}
	if !slices.Equal(privileged, want) || len(seen) != 8 {
		t.Errorf("privileged %v of %v; want %v", privileged, seen, want)
	}
}

func TestTheNodePluginHasTimeToEndWhatItFormats(t *testing.T) {
	const want = 300
	grace := find(t, render(t), "DaemonSet", "shale-node").Spec.Template.Spec.TerminationGracePeriodSeconds
	if grace == nil || *grace < want {
		t.Errorf("the grace period is %v, want %d", grace, want)
	}
}

func TestTheHolderMakesNoUnusualSystemCalls(t *testing.T) {
	holder := find(t, render(t), "DaemonSet", "shale-holder").Spec.Template.Spec.Containers[0]
	profile := holder.SecurityContext.SeccompProfile
	if profile == nil || profile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("its seccomp profile is %v, want that of the runtime", profile)
	}
}

// TestTheHolderWorksWhereSELinuxEnforces: privileged containers are of that type anyway.
func TestTheHolderWorksWhereSELinuxEnforces(t *testing.T) {
	c := find(t, render(t), "DaemonSet", "shale-holder").Spec.Template.Spec.Containers[0]
	if s := c.SecurityContext.SELinuxOptions; s == nil || s.Type != "spc_t" {
		t.Errorf("SELinux options are %v", s)
	}
}

func TestNoRoleHasWildcardsOrSecrets(t *testing.T) {
	seen := 0
	for _, o := range render(t) {
		for _, r := range o.Rules {
			seen++
			for _, word := range slices.Concat(r.APIGroups, r.Resources, r.Verbs) {
				if strings.Contains(word, "*") || word == "secrets" {
					t.Errorf("%s %s: %v", o.Kind, o.Name, r)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("found no rules: the search is broken")
	}
}

// Leases and StoreNodes say who lives. Nobody deletes them but people.
func TestNoRoleDeletesWhatSaysWhoLives(t *testing.T) {
	for _, o := range render(t) {
		for _, rule := range o.Rules {
			known := slices.Contains(rule.Resources, "leases") || slices.Contains(rule.Resources, "storenodes")
			if known && slices.Contains(rule.Verbs, "delete") {
				t.Errorf("%s %s may delete %v", o.Kind, o.Name, rule.Resources)
			}
		}
	}
}

func TestSelectorsPickTheirOwnPodsAlone(t *testing.T) {
	all := render(t)
	var workloads []object
	for _, o := range all {
		if o.isWorkload() {
			workloads = append(workloads, o)
		}
	}
	for _, o := range workloads {
		selector, err := metav1.LabelSelectorAsMap(o.Spec.Selector)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range workloads {
			if got, want := contains(other.Spec.Template.Labels, selector), o.Name == other.Name; got != want {
				t.Errorf("selector of %s picks pods of %s: %v", o.Name, other.Name, got)
			}
		}
	}
}

// TestBudgetsAreForPodsThatAreCounted: the controller of budgets asks for the scale of what made the pods, unless told
// how many must remain. A DaemonSet has none, and then no eviction is ever allowed.
func TestBudgetsAreForPodsThatAreCounted(t *testing.T) {
	all, seen := render(t), 0
	for _, budget := range all {
		if budget.Kind != "PodDisruptionBudget" {
			continue
		}
		seen++
		selector, err := metav1.LabelSelectorAsMap(budget.Spec.Selector)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			if o.isWorkload() && contains(o.Spec.Template.Labels, selector) && o.Kind != "Deployment" {
				t.Errorf("budget %s is for %s %s", budget.Name, o.Kind, o.Name)
			}
		}
		if budget.Spec.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow {
			t.Errorf("budget %s keeps nodes of pods that do not run from being drained", budget.Name)
		}
	}
	find(t, all, "PodDisruptionBudget", "shale-operator")
	find(t, all, "PodDisruptionBudget", "shale-controller")
	if seen != 2 {
		t.Errorf("%d budgets, want 2", seen)
	}
}

func contains(labels, selector map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

func TestRestartingTheNodePluginTouchesNoDevice(t *testing.T) {
	all := render(t)
	initiator := find(t, all, "DaemonSet", "shale-initiator")
	if len(initiator.Spec.Template.Spec.Containers) != 1 {
		t.Error("the initiator shares its pod")
	}
	socket := func(o *object, flag string) string {
		for _, a := range o.Spec.Template.Spec.Containers[0].Args {
			if value, ok := strings.CutPrefix(a, flag); ok {
				return value
			}
		}
		return ""
	}
	offered := socket(initiator, "--socket=")
	asked := socket(find(t, all, "DaemonSet", "shale-node"), "--initiator-socket=")
	if offered == "" || offered != asked {
		t.Errorf("the initiator is at %q, the node plugin asks at %q", offered, asked)
	}
	holder := find(t, all, "DaemonSet", "shale-holder")
	if kept, given := socket(holder, "--socket="), socket(initiator, "--holder-socket="); kept == "" || kept != given {
		t.Errorf("the holder is at %q, the initiator asks at %q", kept, given)
	}
}

// TestAnUpgradeEndsNoDevice: what is renewed with a new image tag must be what devices do without, on any kernel.
func TestAnUpgradeEndsNoDevice(t *testing.T) {
	for value, want := range map[string]appsv1.DaemonSetUpdateStrategyType{
		"":                                       appsv1.OnDeleteDaemonSetStrategyType,
		"initiator.updateStrategy=RollingUpdate": appsv1.RollingUpdateDaemonSetStrategyType,
	} {
		all := render(t, strings.Fields(value)...)
		if got := find(t, all, "DaemonSet", "shale-initiator").Spec.UpdateStrategy.Type; got != want {
			t.Errorf("with %q the initiator's strategy is %s, want %s", value, got, want)
		}
		holder := find(t, all, "DaemonSet", "shale-holder").Spec.UpdateStrategy.Type
		if holder != appsv1.OnDeleteDaemonSetStrategyType {
			t.Errorf("with %q the holder's strategy is %s", value, holder)
		}
	}
}

func TestImagesComeFromTheRegistryGiven(t *testing.T) {
	for sidecars, from := range map[string]string{"": "reg.example", "sidecars.registry=other.example": "other.example"} {
		values := append(strings.Fields(sidecars), "imageRegistry=reg.example", "image.tag=t1")
		for _, o := range render(t, values...) {
			if !o.isWorkload() {
				continue
			}
			for _, c := range o.Spec.Template.Spec.Containers {
				ours := strings.HasPrefix(c.Image, "reg.example/shale/") && strings.HasSuffix(c.Image, ":t1")
				if !ours && !strings.HasPrefix(c.Image, from+"/sig-storage/") {
					t.Errorf("with %q %s has image %s", sidecars, o.Name, c.Image)
				}
			}
		}
	}
}

func TestImagesOfAPrivateRegistryCanBePulledByAllPods(t *testing.T) {
	all := render(t, "imagePullSecrets[0].name=mine")
	for _, o := range all {
		if !o.isWorkload() {
			continue
		}
		account := find(t, all, "ServiceAccount", o.Spec.Template.Spec.ServiceAccountName)
		if s := account.ImagePullSecrets; len(s) != 1 || s[0].Name != "mine" {
			t.Errorf("%s pulls with the secrets %v", o.Name, s)
		}
	}
}

func TestEachProcessLogsWhatItIsAskedFor(t *testing.T) {
	var set []string
	for _, process := range []string{"operator", "controller", "node", "initiator", "holder", "storenode"} {
		set = append(set, process+".logLevel=debug")
	}
	for _, o := range render(t, set...) {
		if !o.isWorkload() {
			continue
		}
		for _, c := range o.Spec.Template.Spec.Containers {
			sidecar := strings.Contains(c.Image, "sig-storage/") // these know no such flag
			if got := slices.Contains(c.Args, "--log-level=debug"); got == sidecar {
				t.Errorf("%s/%s has the flag: %v", o.Name, c.Name, got)
			}
		}
	}
}

// TestPodsOnTheHostsNetworkDoNotFightOverPorts: all ports differ, and an old pod ends before its successor starts.
func TestPodsOnTheHostsNetworkDoNotFightOverPorts(t *testing.T) {
	owner := map[string]string{}
	for _, o := range render(t, "operator.hostNetwork=true", "controller.hostNetwork=true") {
		if !o.isWorkload() {
			continue
		}
		update := o.Spec.Strategy.RollingUpdate
		if o.Kind == "Deployment" && (update == nil || update.MaxSurge.IntVal != 0) {
			t.Errorf("%s: a second pod may start before the first has ended", o.Name)
		}
		for _, c := range o.Spec.Template.Spec.Containers {
			for _, a := range c.Args {
				if port := portFlag.FindStringSubmatch(a); port != nil {
					if other := owner[port[1]]; other != "" {
						t.Errorf("port %s of %s is also %s's", port[1], c.Name, other)
					}
					owner[port[1]] = o.Name + "/" + c.Name
				}
			}
		}
	}
	if len(owner) < 8 {
		t.Errorf("found the ports %v only: the search is broken", owner)
	}
}

var portFlag = regexp.MustCompile(`^--(?:metrics-addr|health-addr|http-endpoint|port)=.*?([0-9]+)$`)

// TestEachContainerIsProbedWhereItListens: a probe of a port that nobody serves would restart the container for ever.
func TestEachContainerIsProbedWhereItListens(t *testing.T) {
	for _, o := range render(t) {
		if !o.isWorkload() {
			continue
		}
		for _, c := range o.Spec.Template.Spec.Containers {
			// An answer that does not come is no reason to end what keeps the devices.
			if live, want := c.LivenessProbe != nil, c.Name != "holder"; live != want {
				t.Errorf("%s/%s has a liveness probe: %v, want %v", o.Name, c.Name, live, want)
			}
			for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
				if probe == nil {
					continue
				}
				port := ":" + probe.HTTPGet.Port.String()
				if !slices.ContainsFunc(c.Args, func(a string) bool { return strings.HasSuffix(a, port) }) {
					t.Errorf("%s/%s: nothing listens on %s", o.Name, c.Name, port)
				}
			}
		}
	}
}

func TestTheProvisionerCanTellHowMuchRoomThereIs(t *testing.T) {
	all := render(t)
	for _, c := range find(t, all, "Deployment", "shale-controller").Spec.Template.Spec.Containers {
		if c.Name != "provisioner" {
			continue
		}
		var names []string
		for _, e := range c.Env {
			names = append(names, e.Name)
		}
		if !slices.Contains(c.Args, "--enable-capacity") || !slices.Contains(names, "POD_NAME") ||
			!slices.Contains(names, "NAMESPACE") {
			t.Errorf("args %v, env %v", c.Args, names)
		}
	}
	may := func(resource, verb string) bool {
		return slices.ContainsFunc(find(t, all, "Role", "shale-controller-leases").Rules, func(r rbacv1.PolicyRule) bool {
			return slices.Contains(r.Resources, resource) && slices.Contains(r.Verbs, verb)
		})
	}
	if !may("csistoragecapacities", "create") || !may("pods", "get") || !may("replicasets", "get") {
		t.Error("it has no right to write CSIStorageCapacity objects or to find their owner")
	}
}
