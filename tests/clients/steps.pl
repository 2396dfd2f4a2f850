# Makes the calls of a plan with LWP or HTTP::Tiny, as steps.mjs does with a client for Node.
#
#     perl steps.pl STACK BASE PLAN FOLDER
use strict;
use warnings;

my ($stack, $base, $plan, $folder) = @ARGV;
my $limit = 20;

# The body in two pieces, without a length.
sub pieces {
    my @pieces = (substr($_[0], 0, 7), substr($_[0], 7), '');
    return sub { shift @pieces };
}

sub with_lwp {
    require LWP::UserAgent;
    require HTTP::Request;
    my $agent = LWP::UserAgent->new(keep_alive => 1, timeout => $limit, max_redirect => 0);
    return sub {
        my ($method, $url, $headers, $framing, $body) = @_;
        my $request = HTTP::Request->new($method, $url, [%$headers]);
        $request->content($framing eq 'chunked' ? pieces($body) : $body) if $framing ne 'none';
        my $got = $agent->request($request);
        # The library's own answer stands for an answer that never came.
        die $got->status_line . "\n" if ($got->header('Client-Warning') // '') eq 'Internal response';
        return ($got->code, $got->header('Cache-Status') // '', $got->content);
    };
}

sub with_tiny {
    require HTTP::Tiny;
    my $client = HTTP::Tiny->new(keep_alive => 1, timeout => $limit, no_proxy => ['127.0.0.1'], max_redirect => 0);
    return sub {
        my ($method, $url, $headers, $framing, $body) = @_;
        my $content = $framing eq 'chunked' ? pieces($body) : $body;
        my $got = $client->request($method, $url, { headers => $headers, $framing eq 'none' ? () : (content => $content) });
        die $got->{content} if $got->{status} == 599;
        return ($got->{status}, $got->{headers}{'cache-status'} // '', $got->{content} // '');
    };
}

my $call = { lwp => \&with_lwp, tiny => \&with_tiny }->{$stack}->();
my $token;
my $number = 0;
$| = 1;
open(my $lines, '<', $plan) or die "$plan: $!";
while (my $line = <$lines>) {
    chomp $line;
    my ($method, $target, $framing, $key, $body) = split /\t/, $line, -1;
    my %headers = (Accept => 'application/json');
    $headers{Authorization} = "Bearer $token" if defined $token;
    $headers{'Sezzle-Request-Id'} = $key if $key ne '-';
    $headers{'Content-Type'} = 'application/json' if $framing ne 'none';
    my ($status, $cache, $content) = eval { $call->($method, $base . $target, \%headers, $framing, $body) };
    if (defined $status) {
        ($token) = $content =~ /"token": ?"([^"]+)"/ if !defined $token;
        open(my $file, '>:raw', "$folder/$number") or die "$folder/$number: $!";
        print $file $content;
        close $file;
        print "$status\t$cache\n";
    } else {
        print "error\t\n";
        print STDERR $@;
    }
    $number++;
}
