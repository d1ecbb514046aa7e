package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
)

const (
	// rescanEvery finds Devices that were plugged in since.
	rescanEvery = 30 * time.Second
	// openPatience is how long a Device may take to be looked at or opened before the others' turn comes and it is told
	// that it is missing or being opened, so that nobody waits for its Replicas; reopenEvery is how soon is seen whether
	// it has answered since.
	openPatience = 5 * time.Second
	reopenEvery  = 2 * time.Second
	// maxDevices bounds what one Pool may select on one node, so that a careless pattern cannot flood the API.
	maxDevices = 128
)

// Content is what a Device was found to hold.
type Content uint8

// The contents. Only an empty Device may be formatted, only ours may be served.
const (
	ContentEmpty Content = iota + 1
	ContentOurs
	ContentForeign
	ContentCorrupt
)

// Found is what a look at a Device tells, without writing to it.
type Found struct {
	Content Content
	// What names the foreign content or the damage, for people.
	What string
	// UUID and Pool, when the Device is ours.
	UUID ident.UUID
	Pool string
	// Size in bytes, Serial and Model as the kernel reports them.
	Size          int64
	Serial, Model string
}

// Opener is the agent's way to Devices.
type Opener interface {
	// Probe looks at the Device at path and writes nothing.
	Probe(path string) (Found, error)
	// Format makes an empty Device ours; it refuses any other.
	Format(path, pool string) error
	// Serve takes a Device of ours into service in the Host; overcommitPercent of its space may be promised.
	Serve(path string, overcommitPercent int32) (ident.UUID, error)
	// Usage of a Device in service; err is set when it has failed.
	Usage(id ident.UUID) (DeviceUsage, error)
	// IsThere reports whether what is in service is still what its path leads to: not after an SSD was pulled.
	IsThere(id ident.UUID) bool
	// Release takes a Device out of service. With an error it is out of service too.
	Release(id ident.UUID) error
}

// DeviceUsage is the space of a Device, in bytes.
type DeviceUsage struct {
	Capacity, Used, Reserved int64
	Replicas                 int
}

// pools claims and serves the Devices that Pools select here.
type pools struct {
	api             client.Client
	node, namespace string
	opener          Opener
	places          *places
	report          *report
	log             *slog.Logger
	// served are the Devices in service, by resolved path. Only the one reconcile worker touches it.
	served map[string]serving
	// attempts are looks and openings under way, by path. One that hangs with its SSD must not keep the others, nor be
	// kept secret. patience is openPatience but in tests.
	attempts map[string]attempt
	patience time.Duration
	// releases are Devices on their way out of service, by UUID.
	releases map[ident.UUID]release
	// rivals are the Leases of storenodes that were said to have in service what was found here, by node.
	rivals map[string]rival
	// startup hears of each pass.
	startup *startup
	// inService hears of each Device that comes into service.
	inService chan<- event.GenericEvent
}

// serving is a Device in service, and the Pool it was formatted for.
type serving struct {
	id   ident.UUID
	pool string
}

// spot is a path at which a Device of the Pool may be. What is not selected is looked at because a Device of the Pool
// was there; whatever else is there by now is somebody else's.
type spot struct {
	path     string
	selected bool
}

// candidate is one path and what became of it.
type candidate struct {
	spot
	found Found
	// reason and message say why it is not in service; empty when it is.
	reason, message string
	// soon: it may be another in seconds.
	soon bool
}

// Reconcile looks at every Device that one Pool selects on this node.
func (r *pools) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pool, err := r.pool(ctx, req.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	r.releaseGone()
	spots, err := r.spots(ctx, pool)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("select devices of pool %s: %w", pool.Name, err)
	}
	var errs []error
	var refused []candidate
	for _, at := range spots {
		c, err := r.take(ctx, pool, at)
		if err != nil {
			errs = append(errs, err)
		}
		if c.reason != "" {
			refused = append(refused, c)
		}
	}
	r.startup.passed(pool.Name, r.attempts)
	errs = append(errs, r.tellRefused(ctx, pool, refused), r.tellMissing(ctx, pool.Name, refused))
	if pool.UID == "" && len(spots) == 0 {
		return reconcile.Result{}, errors.Join(errs...) // nothing is left of it here
	}
	waiting := len(r.attempts) > 0 || len(r.releases) > 0
	if waiting || slices.ContainsFunc(refused, func(c candidate) bool { return c.soon }) {
		return reconcile.Result{RequeueAfter: reopenEvery}, errors.Join(errs...)
	}
	return reconcile.Result{RequeueAfter: rescanEvery}, errors.Join(errs...)
}

// pool is the Pool, or, if a person deleted it, one of the name that selects nothing: its Devices hold data, and are
// served until they are empty and wiped.
func (r *pools) pool(ctx context.Context, name string) (*v1alpha1.Pool, error) {
	pool := &v1alpha1.Pool{}
	err := r.api.Get(ctx, client.ObjectKey{Name: name}, pool)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("get pool %s: %w", name, err)
	case err != nil:
		pool.Name = name
	case pool.DeletionTimestamp != nil:
		pool.Spec.DeviceSelector = v1alpha1.DeviceSelector{}
	}
	return pool, nil
}

func (r *pools) selectsNode(ctx context.Context, pool *v1alpha1.Pool) (bool, error) {
	if len(pool.Spec.NodeSelector) == 0 {
		return true, nil
	}
	var node corev1.Node
	if err := r.api.Get(ctx, client.ObjectKey{Name: r.node}, &node); err != nil {
		return false, fmt.Errorf("get node %s: %w", r.node, err)
	}
	return labels.SelectorFromSet(pool.Spec.NodeSelector).Matches(labels.Set(node.Labels)), nil
}

// matched are the resolved paths that the Pool's patterns match. One that cannot be read matches nothing; the Pool's
// condition says so.
func (r *pools) matched(ctx context.Context, pool *v1alpha1.Pool) ([]string, error) {
	selected, err := r.selectsNode(ctx, pool)
	if err != nil || !selected {
		return nil, err
	}
	var all []string
	for _, pattern := range pool.Spec.DeviceSelector.Paths {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			r.log.Warn("Could not read path pattern", "pool", pool.Name, "pattern", pattern, "error", err)
		}
		all = append(all, matches...)
	}
	return resolve(all), nil
}

// spots are the resolved paths where the Pool's Devices were before, and those that match, each once. The former have
// data, so they are served whether the Pool still selects them or not, and come first, so that no pattern crowds them
// out.
func (r *pools) spots(ctx context.Context, pool *v1alpha1.Pool) ([]spot, error) {
	matched, err := r.matched(ctx, pool)
	if err != nil {
		return nil, err
	}
	var known v1alpha1.DeviceList
	if err := r.api.List(ctx, &known); err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var before []string
	for i := range known.Items {
		d := &known.Items[i].Spec
		if d.NodeName == r.node && d.PoolName == pool.Name && d.UUID != "" {
			before = append(before, d.Path)
		}
	}
	for path, a := range r.attempts {
		if a.pool == pool.Name {
			before = append(before, path)
		}
	}
	var spots []spot
	for _, path := range resolve(before) {
		spots = append(spots, spot{path, slices.Contains(matched, path)})
	}
	for _, path := range matched {
		if !slices.Contains(spots, spot{path, true}) && len(spots) < maxDevices {
			spots = append(spots, spot{path, true})
		}
	}
	return spots, nil
}

// resolve follows links, as far as they lead anywhere, and sorts; each path comes out once.
func resolve(paths []string) []string {
	for i, path := range paths {
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			paths[i] = resolved
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// take serves the Device at a spot if it may be served, formatting it if it is empty and selected.
func (r *pools) take(ctx context.Context, pool *v1alpha1.Pool, at spot) (candidate, error) {
	path, c := at.path, candidate{spot: at}
	if s, ok := r.served[path]; ok {
		if s.pool != pool.Name {
			c.reason, c.message = v1alpha1.ReasonOtherPool, fmt.Sprintf("%s belongs to pool %q", path, s.pool)
			return c, nil
		}
		return c, r.tellServed(ctx, pool, s.id, c)
	}
	begun, was := r.attempts[path]
	switch {
	case was && begun.pool != pool.Name:
		return c, nil // it is known whose it is when that has ended
	case was && begun.serves:
		return r.serve(ctx, pool, c, r.wait(path, 0))
	case !was:
		r.begin(path, attempt{pool: pool.Name}, func() (o outcome) {
			o.found, o.err = r.opener.Probe(path)
			return o
		})
	}
	patience := r.patience
	if was {
		patience = 0 // it had its time
	}
	looked := r.wait(path, patience)
	if c.found = looked.found; looked.err != nil {
		c.reason, c.message = v1alpha1.ReasonUnreadable, looked.err.Error()
		return c, nil //nolint:nilerr // the Device object tells of it
	}
	if at.selected && c.found.Content != ContentOurs && !matches(&pool.Spec.DeviceSelector, c.found) {
		return c, nil
	}
	if c.reason, c.message = r.refuse(pool.Name, at, c.found); c.reason != "" {
		return c, nil
	}
	if c.reason, c.message = r.servedElsewhere(ctx, c.found); c.reason != "" {
		c.soon = true
		return c, nil
	}
	overcommit := pool.Spec.OvercommitPercent
	r.begin(path, attempt{pool: pool.Name, serves: true, id: looked.found.UUID}, func() outcome {
		return r.open(path, pool.Name, overcommit, looked.found)
	})
	return r.serve(ctx, pool, c, r.wait(path, r.patience))
}

// open formats the Device if it is empty, and takes it into service.
func (r *pools) open(path, pool string, overcommitPercent int32, found Found) outcome {
	o := outcome{found: found}
	if found.Content == ContentEmpty {
		if err := r.opener.Format(path, pool); err != nil {
			o.err = fmt.Errorf("format device %s: %w", path, err)
			return o
		}
		r.log.Info("Formatted device", "path", path, "pool", pool)
	}
	if o.id, o.err = r.opener.Serve(path, overcommitPercent); o.err != nil {
		o.err = fmt.Errorf("serve device %s: %w", path, o.err)
	}
	return o
}

// serve notes the outcome of open.
func (r *pools) serve(ctx context.Context, pool *v1alpha1.Pool, c candidate, o outcome) (candidate, error) {
	if o.err != nil {
		c.reason, c.message = v1alpha1.ReasonUnreadable, o.err.Error()
		if errors.Is(o.err, errSlow) {
			c.reason, c.message = v1alpha1.ReasonOpening, errOpening.Error()
			return c, nil // the Device object tells of it
		}
		return c, o.err
	}
	c.found = o.found
	r.served[c.path] = serving{o.id, pool.Name}
	r.places.serve(o.id)
	r.log.Info("Serving device", "path", c.path, "device", o.id.String(), "pool", pool.Name)
	err := r.tellServed(ctx, pool, o.id, c)
	r.inService <- event.GenericEvent{Object: &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: deviceName(o.id)}}}
	return c, err
}

// attempt is a look at a Device for a Pool, or its opening if it serves.
type attempt struct {
	pool   string
	serves bool
	// id of the Device that is being opened, if it was found to be ours: no other of that UUID may be opened meanwhile.
	id    ident.UUID
	since time.Time
	ended chan outcome
}

// outcome of an attempt.
type outcome struct {
	found Found
	id    ident.UUID
	err   error
}

// errSlow says that an attempt has not ended yet.
var errSlow = errors.New("the device does not answer; it is waited for, and in service once it does")

// errOpening is errSlow of an opening: the Device has answered before.
var errOpening = errors.New("what the device holds is being read, and it is in service once that has ended; " +
	"if that takes many minutes, look at the node's kernel log")

// begin runs f beside the others' turn.
func (r *pools) begin(path string, a attempt, f func() outcome) {
	a.since, a.ended = r.report.clock.Now(), make(chan outcome, 1)
	r.attempts[path] = a
	go func() { a.ended <- f() }()
}

// wait is the outcome of the attempt at path, or errSlow.
func (r *pools) wait(path string, patience time.Duration) outcome {
	o, ok := await(r.report.clock, r.attempts[path].ended, patience)
	if !ok {
		return outcome{err: errSlow}
	}
	delete(r.attempts, path)
	return o
}

// await waits for what ends beside it. What has ended is taken, whatever the time.
func await[T any](c clock.Clock, ended <-chan T, patience time.Duration) (o T, ok bool) {
	var late <-chan time.Time
	if len(ended) == 0 {
		late = c.After(patience)
	}
	select {
	case o = <-ended:
		return o, true
	case <-late:
		return o, false
	}
}

// refuse says why a Device must not be touched.
func (r *pools) refuse(pool string, at spot, f Found) (reason, message string) {
	path := at.path
	original := r.original(path, f)
	switch {
	case original != "":
		return v1alpha1.ReasonForeignData, fmt.Sprintf(
			"%s is a copy of device %s, which is %s, or another path to it: it is left untouched; wipe it if it is a copy "+
				"and not needed", path, deviceName(f.UUID), original)
	case f.Content == ContentOurs && r.isReleasing(f.UUID):
		return v1alpha1.ReasonUnreadable, fmt.Sprintf("device %s is still being taken out of service at %s, where it does "+
			"not answer; it is in service at %s once that has ended", deviceName(f.UUID), r.releases[f.UUID].path, path)
	case !at.selected && f.Content == ContentEmpty:
		return v1alpha1.ReasonForeignData, path + " is empty, and not selected by the pool any more: it is left untouched"
	case f.Content == ContentForeign:
		return v1alpha1.ReasonForeignData, fmt.Sprintf(
			"%s holds %s and is left untouched; wipe it if its data is not needed, or narrow the pool's deviceSelector",
			path, f.What)
	case f.Content == ContentCorrupt:
		return v1alpha1.ReasonCorruptSuperblock, fmt.Sprintf(
			"%s has a damaged superblock (%s) and is left untouched; look at it with `storenode inspect %s`",
			path, f.What, path)
	case f.Content == ContentOurs && f.Pool != pool:
		return v1alpha1.ReasonOtherPool, fmt.Sprintf("%s belongs to pool %q", path, f.Pool)
	}
	return "", ""
}

// original says where another Device of the same UUID is in service or about to be; empty if none is. Of two Stores
// for one UUID, one would answer with what the other has forgotten; and if the paths are two ways to one SSD, each
// would write over the other's Journal.
func (r *pools) original(path string, f Found) string {
	if f.Content != ContentOurs {
		return ""
	}
	for other, s := range r.served {
		if s.id == f.UUID {
			return "in service at " + other
		}
	}
	for other, a := range r.attempts {
		if a.serves && a.id == f.UUID && other != path {
			return "being opened at " + other
		}
	}
	return ""
}

// matches reports whether what the kernel says of a Device fits the selector. Paths have been matched before.
func matches(s *v1alpha1.DeviceSelector, f Found) bool {
	if s.MinSizeBytes > 0 && f.Size < s.MinSizeBytes || s.MaxSizeBytes > 0 && f.Size > s.MaxSizeBytes {
		return false
	}
	if len(s.Models) == 0 {
		return true
	}
	return slices.ContainsFunc(s.Models, func(pattern string) bool {
		ok, err := filepath.Match(pattern, f.Model)
		return err == nil && ok
	})
}

// tellServed keeps the Device object of a Device in service: it moves with the Device to another node or path.
func (r *pools) tellServed(ctx context.Context, pool *v1alpha1.Pool, id ident.UUID, c candidate) error {
	spec := v1alpha1.DeviceSpec{
		UUID: id.String(), PoolName: pool.Name, NodeName: r.node, Path: c.path,
		Serial: c.found.Serial, Model: c.found.Model,
	}
	_, failed := r.opener.Usage(id)
	var object v1alpha1.Device
	err := r.api.Get(ctx, client.ObjectKey{Name: deviceName(id)}, &object)
	if failed != nil && apierrors.IsNotFound(err) {
		return nil // a person has said that it will not return
	}
	if err := r.ensure(ctx, deviceName(id), spec); err != nil {
		return err
	}
	return r.report.device(ctx, id)
}

// ensure creates the Device object or brings its spec in line.
func (r *pools) ensure(ctx context.Context, name string, spec v1alpha1.DeviceSpec) error {
	var have v1alpha1.Device
	err := r.api.Get(ctx, client.ObjectKey{Name: name}, &have)
	if apierrors.IsNotFound(err) {
		have.Name, have.Spec = name, spec
		if err := r.api.Create(ctx, &have); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create device %s: %w", name, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("get device %s: %w", name, err)
	}
	if spec.Serial == "" {
		spec.Serial, spec.Model = have.Spec.Serial, have.Spec.Model
	}
	if have.Spec == spec {
		return nil
	}
	have.Spec = spec
	if err := r.api.Update(ctx, &have); err != nil {
		return fmt.Errorf("update device %s: %w", name, err)
	}
	return nil
}

// tellRefused keeps one Device object for each selected path that is not in service, and drops those that are past.
func (r *pools) tellRefused(ctx context.Context, pool *v1alpha1.Pool, refused []candidate) error {
	var errs []error
	current := map[string]bool{}
	for _, c := range refused {
		if !c.selected {
			continue // nobody asks for it; the Device that was there tells
		}
		name := candidateName(r.node, c.path)
		current[name] = true
		spec := v1alpha1.DeviceSpec{
			PoolName: pool.Name, NodeName: r.node, Path: c.path, Serial: c.found.Serial, Model: c.found.Model,
		}
		if err := r.ensure(ctx, name, spec); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, r.report.refused(ctx, name, c))
	}
	var list v1alpha1.DeviceList
	if err := r.api.List(ctx, &list); err != nil {
		return errors.Join(append(errs, fmt.Errorf("list devices: %w", err))...)
	}
	for i := range list.Items {
		d := &list.Items[i]
		ours := strings.HasPrefix(d.Name, candidatePrefix) && d.Spec.NodeName == r.node && d.Spec.PoolName == pool.Name
		if !ours || current[d.Name] {
			continue
		}
		errs = append(errs, client.IgnoreNotFound(r.api.Delete(ctx, d)))
	}
	return errors.Join(errs...)
}
