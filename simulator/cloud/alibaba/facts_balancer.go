package alibaba

// LoadBalancer is a CLB instance (DescribeLoadBalancers).
type LoadBalancer struct {
	LoadBalancerId     string
	LoadBalancerStatus string // active, inactive, locked
	Address            string
	AddressType        string // internet, intranet
	VpcId, VSwitchId   string
}

// LoadBalancerAttribute is what DescribeLoadBalancerAttribute adds: the default
// server group.
type LoadBalancerAttribute struct {
	LoadBalancer
	BackendServers struct{ BackendServer []BackendServer }
}

// BackendServer is a member of a server group of CLB.
type BackendServer struct {
	ServerId string // of an instance, or of a network interface
	ServerIp string // where the type is eni
	Type     string // ecs, eni, eci
	Port     number // 0 in the default server group
	Weight   number
}

// Listener is one of DescribeLoadBalancerListeners.
type Listener struct {
	LoadBalancerId      string
	ListenerPort        number // 0 with port ranges
	ListenerProtocol    string // tcp, udp, http, https
	Status              string // starting, running, configuring, stopping, stopped
	BackendServerPort   number
	VServerGroupId      string
	AclStatus           string // on, off
	AclType             string // white, black
	AclId               string
	AclIds              []string
	TCPListenerConfig   ListenerConfig
	UDPListenerConfig   ListenerConfig
	HTTPListenerConfig  ListenerConfig
	HTTPSListenerConfig ListenerConfig
}

// ListenerConfig is what listeners have for their protocol.
type ListenerConfig struct {
	HealthCheck              string // on, off
	FullNatEnabled           boolean
	ListenerForward          string // on, off: to another listener
	ForwardPort              number
	MasterSlaveServerGroupId string
	PortRanges               []struct{ StartPort, EndPort number }
}

// VServerGroup is one of DescribeVServerGroupAttribute.
type VServerGroup struct {
	VServerGroupId   string
	VServerGroupName string
	LoadBalancerId   string
	BackendServers   struct{ BackendServer []BackendServer }
}

// HealthStatus is what DescribeHealthStatus says of a load balancer. The response
// does not name it: LoadBalancerId is added to it, or in the name of the file.
type HealthStatus struct {
	LoadBalancerId string
	BackendServers struct {
		BackendServer []struct {
			ServerId, ServerIp string
			Protocol           string
			ListenerPort, Port number
			ServerHealthStatus string // normal, abnormal, unavailable
		}
	}
}

// AccessList is one of DescribeAccessControlListAttribute.
type AccessList struct {
	AclId            string
	AddressIPVersion string
	AclEntrys        struct{ AclEntry []struct{ AclEntryIP string } }
}

// Balancers are network load balancers, or application load balancers.
type Balancers struct {
	LoadBalancers []ZonedLoadBalancer // ListLoadBalancers
	Attributes    []ZonedLoadBalancer // GetLoadBalancerAttribute, which has the addresses of ALB
	Listeners     []ZonedListener     // ListListeners
	ServerGroups  []ZonedServerGroup  // ListServerGroups
	Servers       []ZonedServer       // ListServerGroupServers
	Health        []ZonedHealthStatus // GetListenerHealthStatus

	// Access control, which ALB alone has.
	ListenerAttributes []ZonedListenerAttribute // GetListenerAttribute
	AccessLists        []ZonedAccessList        // ListAclEntries
}

// ZonedLoadBalancer is an NLB or ALB instance.
type ZonedLoadBalancer struct {
	LoadBalancerId     string
	LoadBalancerStatus string // Active, Inactive, Provisioning, Configuring, CreateFailed
	AddressType        string // Internet, Intranet
	VpcId              string
	DNSName            string
	SecurityGroupIds   []string
	ZoneMappings       []struct {
		VSwitchId, ZoneId     string
		LoadBalancerAddresses []ZonedAddress
	}
}

// ZonedAddress is the address of a load balancer in a zone: NLB and ALB spell it
// differently.
type ZonedAddress struct {
	PrivateIPv4Address string // NLB
	PublicIPv4Address  string // NLB
	Address            string // ALB: the public one, or the private one
	IntranetAddress    string // ALB
	Ipv6Address        string
	EniId              string
}

// ZonedListener is a listener of an NLB or ALB.
type ZonedListener struct {
	LoadBalancerId     string
	ListenerId         string
	ListenerProtocol   string // TCP, UDP, TCPSSL; HTTP, HTTPS, QUIC
	ListenerPort       number
	StartPort, EndPort number // with all ports: ListenerPort is 0
	ListenerStatus     string // Provisioning, Running, Configuring, Stopping, Stopped
	ServerGroupId      string // NLB
	DefaultActions     []struct {
		Type               string
		ForwardGroupConfig struct {
			ServerGroupTuples []struct{ ServerGroupId string }
		}
	}
}

// ZonedListenerAttribute is what GetListenerAttribute adds to a listener of ALB: its
// access control.
type ZonedListenerAttribute struct {
	ListenerId string
	AclConfig  struct {
		AclType      string // White, Black
		AclRelations []struct {
			AclId  string
			Status string // Associating, Associated, Dissociating
		}
	}
}

// ZonedAccessList is a page of ListAclEntries. The response does not name the list:
// AclId is added to it, or in the name of the file.
type ZonedAccessList struct {
	AclId      string
	AclEntries []struct {
		Entry  string
		Status string // Adding, Available, Removing
	}
}

// ZonedServerGroup is a server group of an NLB or ALB.
type ZonedServerGroup struct {
	ServerGroupId           string
	ServerGroupType         string // Instance, Ip
	PreserveClientIpEnabled boolean
	AnyPortEnabled          boolean
	HealthCheck             struct{ HealthCheckEnabled boolean }
	HealthCheckConfig       struct{ HealthCheckEnabled boolean }
}

// ZonedServer is a member of one.
type ZonedServer struct {
	ServerGroupId string
	ServerId      string
	ServerIp      string
	ServerType    string // Ecs, Eni, Eci, Ip
	Port          number
	Weight        number
	Status        string // Adding, Available, Configuring, Removing
}

// ZonedHealthStatus lists the members that are not healthy.
type ZonedHealthStatus struct {
	ListenerId       string
	ListenerPort     number
	ServerGroupInfos []struct {
		ServerGroupId    string
		NonNormalServers []struct {
			ServerId, ServerIp string
			Port               number
			Status             string // Initial, Unhealthy, Unused, Unavailable
		}
	}
}
