package alibaba

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
)

func decode(t *testing.T, files ...string) *Facts {
	t.Helper()
	f := new(Facts)
	for i := 0; i < len(files); i += 2 {
		if err := Decode("cloud/alibaba/"+files[i], []byte(files[i+1]), f); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestDecodeReadsResponses(t *testing.T) {
	f := decode(t,
		"DescribeNetworkInterfaces.json", `{"RequestId": "R", "TotalCount": 1, "PageSize": 50, "NetworkInterfaceSets": {"NetworkInterfaceSet": [
  {"NetworkInterfaceId": "eni-1", "Type": "Primary", "OwnerId": "1234567890123456", "MacAddress": "00:16:3e:0a:0b:0c", "InstanceId": "i-1",
   "VpcId": "vpc-1", "VSwitchId": "vsw-1", "PrivateIpAddress": "10.0.0.1", "SomethingNew": {"a": [1]},
   "PrivateIpSets": {"PrivateIpSet": [{"PrivateIpAddress": "10.0.0.1", "Primary": true}, {"PrivateIpAddress": "10.0.0.2", "Primary": false}]},
   "Ipv4PrefixSets": {"Ipv4PrefixSet": [{"Ipv4Prefix": "10.0.1.0/28"}]},
   "SecurityGroupIds": {"SecurityGroupId": ["sg-1"]}}]}}`,
		// The API gives priorities as a number, and its SDK as a string.
		"DescribeSecurityGroupAttribute.sg-1.json", `{"SecurityGroupId": "sg-1", "InnerAccessPolicy": "Accept", "Permissions": {"Permission": [
  {"Direction": "ingress", "Policy": "Accept", "Priority": "1", "IpProtocol": "TCP", "PortRange": "80/80", "SourceCidrIp": "0.0.0.0/0", "SourceGroupOwnerAccount": "someone@example.com"},
  {"Direction": "egress", "Policy": "Drop", "Priority": 100, "IpProtocol": "ALL", "PortRange": "-1/-1", "DestCidrIp": "10.0.0.0/8"}]}}`,
		"DescribeSecurityGroupAttribute.sg-2.json", `{"SecurityGroupId": "sg-2"}`,
		// A list of responses, and one after the other.
		"ecs.DescribeInstances.json", `[{"Instances": {"Instance": [{"InstanceId": "i-1", "Status": "Running"}]}}, {"Instances": {"Instance": [{"InstanceId": "i-2"}]}}]`,
		"vpc.DescribeVpcs.json", `{"Vpcs": {"Vpc": [{"VpcId": "vpc-1"}]}}
{"Vpcs": {"Vpc": [{"VpcId": "vpc-2"}]}}`,
		"cn-hangzhou/DescribeRouteEntryList-1.json", `{"RouteEntrys": {"RouteEntry": [{"RouteTableId": "vtb-1", "DestinationCidrBlock": "0.0.0.0/0", "NextHops": {"NextHop": [{"NextHopType": "NatGateway", "NextHopId": "ngw-1", "Enabled": 1}]}}]}}`,
		"DescribeHealthStatus.lb-1.json", `{"BackendServers": {"BackendServer": [{"ServerId": "i-1", "ListenerPort": 80, "ServerHealthStatus": "normal"}]}}`,
		"DescribeNetworkAclAttributes.json", `{"NetworkAclAttribute": {"NetworkAclId": "nacl-1", "IngressAclEntries": {"IngressAclEntry": [{"Policy": "accept", "Protocol": "all", "Port": "-1/-1", "SourceCidrIp": "0.0.0.0/0"}]}}}`,
		"nlb.ListListeners.json", `{"Success": true, "Code": "200", "Listeners": [{"ListenerId": "lsn-1", "LoadBalancerId": "nlb-1", "ListenerPort": 80, "StartPort": "", "EndPort": ""}]}`,
		"ListListeners.json", `nonsense: whose it is, nobody knows`,
		"README.md", `no JSON`,
	)
	switch {
	case len(f.Interfaces) != 1 || f.Interfaces[0].MacAddress != "00:16:3e:0a:0b:0c",
		len(f.GroupRules) != 2 || len(f.GroupRules[0].Permissions.Permission) != 2 || f.GroupRules[0].Permissions.Permission[0].Priority != 1,
		len(f.Instances) != 2, len(f.VPCs) != 2, len(f.RouteEntries) != 1,
		len(f.Health) != 1 || f.Health[0].LoadBalancerId != "lb-1",
		len(f.NetworkACLs) != 1 || f.NetworkACLs[0].NetworkAclId != "nacl-1",
		len(f.NLB.Listeners) != 1, len(f.Failed) != 0:
		t.Errorf("%+v", f)
	}
	if !f.Read[describeVPCs] || f.Read[describeVSwitches] {
		t.Errorf("read: %v", f.Read)
	}

	files, err := Files(f)
	if err != nil {
		t.Fatal(err)
	}
	again := new(Facts)
	for name, data := range files {
		for _, secret := range []string{"1234567890123456", "OwnerId", "someone@example.com", "SomethingNew", "RequestId"} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s holds %s", name, secret)
			}
		}
		if err := Decode(name, data, again); err != nil {
			t.Error(err)
		}
	}
	f.Pages, again.Pages = nil, nil
	if !reflect.DeepEqual(f, again) {
		t.Errorf("read again:\n%+v\nwas\n%+v", again, f)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct{ file, data, want string }{
		{"DescribeVpcs.json", `{"Vpcs": `, "DescribeVpcs.json:1: not JSON: unexpected EOF"},
		{"DescribeVpcs.json", "{\n\"Vpcs\": nonsense}", `DescribeVpcs.json:2: not JSON: invalid character 'o' in literal null (expecting 'u') at "onsense"`},
		{"DescribeVpcs.json", `3`, `DescribeVpcs.json:1: want a response, an object at "3"`},
		{"DescribeVpcs.json", `[[]]`, `DescribeVpcs.json:1: want a response, an object at "["`},
		{"DescribeVpcs.json", "{\"Vpcs\": {\"Vpc\":\n [{\"VpcId\": 7}]}}", `DescribeVpcs.json:2: Vpcs.Vpc.VpcId is number, and should be a string at "7"`},
		{"DescribeVpcs.json", "[{},\n{\"Vpcs\": []}]", `DescribeVpcs.json:2: Vpcs is array, and should be an object`},
		{"DescribeVpcs.json", "{\"Vpcs\": {\"Vpc\": [{\n\"CidrBlock\": \"10.0.0.0/33\"}]}}", `DescribeVpcs.json:2: is not a CIDR block at "10.0.0.0/33"`},
		{"DescribeSecurityGroupAttribute.json", `{"SecurityGroupId": "sg-1", "Permissions": {"Permission": [{"Priority": "first"}]}}`, `is not a number at "\"first\""`},
		{"DescribeSecurityGroupAttribute.json", `{"SecurityGroupId": "sg-1", "Permissions": {"Permission": [{"Priority": 101}]}}`, `is not a priority from 1 to 100 at "101"`},
		{"DescribeSecurityGroupAttribute.json", `{"SecurityGroupId": "sg-1", "Permissions": {"Permission": [{"Priority": 1, "PortRange": "90/80"}]}}`, `is not a range of ports at "90/80"`},
		{"DescribeNetworkInterfaces.json", `{"NetworkInterfaceSets": {"NetworkInterfaceSet": [{"MacAddress": "00:16:3e"}]}}`, `is not a MAC address at "00:16:3e"`},
		{"DescribeNetworkInterfaces.json", `{"NetworkInterfaceSets": {"NetworkInterfaceSet": [{"PrivateIpAddress": "10.0.0"}]}}`, `is not an IP address at "10.0.0"`},
		{"DescribeHealthStatus.json", `{"BackendServers": {}}`, "does not say which resource it is about"},
	} {
		f := new(Facts)
		err := Decode(c.file, []byte(c.data), f)
		var syntax *netfilter.SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.data, err, c.want)
		}
		if !reflect.DeepEqual(f, new(Facts)) {
			t.Errorf("%s: half read", c.data)
		}
	}
}

func TestWhatIsMissingOfAnActionIsNoticed(t *testing.T) {
	page := func(n string) string {
		return `{"TotalCount": 2, "Instances": {"Instance": [{"InstanceId": "i-` + n + `"}]}}`
	}
	for _, c := range []struct {
		name, failed string
		read         bool
		files        []string
	}{
		{"all pages", "", true, []string{"DescribeInstances.1.json", page("1"), "DescribeInstances.2.json", page("2")}},
		{"half of them", "1 of 2 were read", true, []string{"DescribeInstances.json", page("1")}},
		{"a token is left", "the last page was not read", true, []string{"DescribeInstances.json", `{"NextToken": "t", "Instances": {"Instance": [{"InstanceId": "i-1"}]}}`}},
		{"throttled", "Throttling.User: Request was denied due to user flow control.", false, []string{"DescribeInstances.json", `{"Code": "Throttling.User", "Message": "Request was denied due to user flow control.", "RequestId": "R"}`}},
		{"throttled at the second", "Throttling.User", true, []string{"DescribeInstances.1.json", page("1"), "DescribeInstances.2.json", `{"Code": "Throttling.User"}`}},
		{"throttled at the first", "Throttling.User", true, []string{"DescribeInstances.1.json", `{"Code": "Throttling.User"}`, "DescribeInstances.2.json", page("1") + page("2")}},
	} {
		f := decode(t, c.files...)
		if f.Failed[describeInstances] != c.failed || f.Read[describeInstances] != c.read {
			t.Errorf("%s: failed %q, read %v", c.name, f.Failed[describeInstances], f.Read[describeInstances])
		}
		files, err := Files(f)
		if err != nil {
			t.Fatal(err)
		}
		again := new(Facts)
		for _, name := range []string{"DescribeInstances.failed.json", "DescribeInstances.json"} {
			if err := Decode(name, files[name], again); files[name] != nil && err != nil {
				t.Fatal(err)
			}
		}
		if again.Failed[describeInstances] != c.failed {
			t.Errorf("%s: read again, failed %q", c.name, again.Failed[describeInstances])
		}
	}
}

// What is refused for network ACLs, whose response has one of them and no list, is
// refused all the same.
func TestARefusedNetworkACLIsNotRead(t *testing.T) {
	f := decode(t, "vpc.DescribeNetworkAclAttributes.json", `{"Code": "Forbidden.RAM", "RequestId": "R"}`)
	if f.Read[describeNetworkACL] || f.Failed[describeNetworkACL] != "Forbidden.RAM" || len(f.NetworkACLs) != 0 {
		t.Errorf("read %v, failed %q, %d ACLs", f.Read[describeNetworkACL], f.Failed[describeNetworkACL], len(f.NetworkACLs))
	}
}

func TestAnActionThatToldNothingIsReadBack(t *testing.T) {
	f := readAll(new(Facts))
	files, err := Files(f)
	if err != nil {
		t.Fatal(err)
	}
	again := new(Facts)
	for name, data := range files {
		if err := Decode(name, data, again); err != nil {
			t.Error(err)
		}
	}
	for _, a := range actions {
		if !again.Read[a.name] && a.name != "vpc.DescribeNetworkAcls" {
			t.Errorf("%s was not read back: %s", a.name, files[a.file()+".json"])
		}
	}
}

// Whatever there is in a bundle, it is read or refused, and packets go on.
func FuzzDecode(f *testing.F) {
	for i := range actions {
		f.Add(actions[i].file()+".json", []byte(`{"SecurityGroupId": "sg-1", "LoadBalancerId": "lb-1"}`))
	}
	f.Add("DescribeNetworkInterfaces.json", []byte(`{"NetworkInterfaceSets": {"NetworkInterfaceSet": [{"NetworkInterfaceId": "eni-a", "PrivateIpAddress": "10.0.0.1"}]}}`))
	f.Add("DescribeRouteEntryList.json", []byte(`{"RouteEntrys": {"RouteEntry": [{"RouteTableId": "vtb-1", "DestinationCidrBlock": "0.0.0.0/0", "NextHops": {"NextHop": [{"NextHopType": "NatGateway"}]}}]}}`))
	f.Add("DescribeLoadBalancers.json", []byte(`[{"LoadBalancers": {"LoadBalancer": [{"LoadBalancerId": "lb-1", "Address": "47.0.1.1"}]}}]{`))
	f.Fuzz(func(t *testing.T, file string, data []byte) {
		facts := loadBalancers(t)
		if Decode(file, data, facts) != nil {
			return
		}
		c := Compile(facts)
		for _, doubtful := range []bool{false, true} {
			j := &journey{c: c, doubtful: doubtful}
			j.carry(t, "internet", "tcp 203.0.113.9 47.0.1.1:80", false)
			if c.interfaces["eni-a"] != nil {
				j.carry(t, "eni-a", "tcp 10.0.0.1 10.0.1.2:80", false)
				j.carry(t, "eni-a", "tcp 10.0.0.1 8.8.8.8:80", false)
			}
		}
		if _, err := Files(facts); err != nil {
			t.Error(err)
		}
	})
}
