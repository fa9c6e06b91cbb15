package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Access says how to reach an API server.
type Access struct {
	// Kubeconfig is a file in kubectl's format, of which the current context is
	// used.
	Kubeconfig string
	// InCluster uses the service account of the pod that this process runs in.
	InCluster bool
}

// Given says whether there is an API server to ask at all.
func (a Access) Given() bool { return a.Kubeconfig != "" || a.InCluster }

// Config reads the credentials. Its errors are the operator's to correct.
func (a Access) Config() (*rest.Config, error) {
	switch {
	case a.Kubeconfig != "" && a.InCluster:
		return nil, errors.New("kubernetes: a kubeconfig and the pod's own service account exclude each other")
	case a.InCluster:
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("kubernetes: the pod's own service account: %w", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: kubeconfig %s: %w", a.Kubeconfig, err)
	}
	return config, nil
}

// client speaks to the API server through one HTTP client. It knows the three
// groups of interest and none else: client-go's own set of clients has them all,
// and makes the program larger by a half.
type client struct {
	http    *http.Client
	typed   map[schema.GroupVersion]*rest.RESTClient
	any     *rest.RESTClient // for paths of any group
	dynamic *dynamic.DynamicClient
}

// ownConfig is a copy, by which the API server is told who asks.
func ownConfig(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	if config.UserAgent == "" {
		config.UserAgent = "plumbline"
	}
	return config
}

func newClient(config *rest.Config) (*client, error) {
	config = ownConfig(config)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	c := &client{http: httpClient, typed: map[schema.GroupVersion]*rest.RESTClient{}}
	for _, version := range []schema.GroupVersion{corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion} {
		config := rest.CopyConfig(config)
		config.GroupVersion, config.NegotiatedSerializer = &version, codecs
		config.APIPath = "/apis"
		if version.Group == "" {
			config.APIPath = "/api"
		}
		config.ContentType = runtime.ContentTypeProtobuf
		config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		if c.typed[version], err = rest.RESTClientForConfigAndClient(config, httpClient); err != nil {
			return nil, fmt.Errorf("kubernetes: %w", err)
		}
	}
	plain := rest.CopyConfig(config)
	plain.NegotiatedSerializer = codecs
	if c.any, err = rest.UnversionedRESTClientForConfigAndClient(plain, httpClient); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if c.dynamic, err = dynamic.NewForConfigAndClient(config, httpClient); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return c, nil
}

func (c *client) close() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// source lists and watches one resource.
type source struct {
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// source is that of a resource of one of the three groups; list makes an empty
// list of its kind. Only objects whose fields the selector matches are read; empty
// for all.
func (c *client) source(version schema.GroupVersion, resource, selector string, list func() runtime.Object) source {
	request := func(options metav1.ListOptions) *rest.Request {
		options.FieldSelector = selector
		return c.typed[version].Get().Resource(resource).VersionedParams(&options, metav1.ParameterCodec)
	}
	return source{
		list: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			into := list()
			return into, request(options).Do(ctx).Into(into)
		},
		watch: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.Watch = true
			return request(options).Watch(ctx)
		},
	}
}

// untyped is the source of a resource of any group.
func (c *client) untyped(resource schema.GroupVersionResource) source {
	r := c.dynamic.Resource(resource)
	return source{
		list: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return r.List(ctx, options)
		},
		watch: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return r.Watch(ctx, options)
		},
	}
}

// get reads a document of the API into an object.
func (c *client) get(ctx context.Context, into any, path ...string) error {
	text, err := c.any.Get().AbsPath(path...).SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
