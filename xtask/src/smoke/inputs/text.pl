use strict;
use warnings;

my $seed = 42;
sub next_number { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return $seed >> 8 }

my (%count, @lines);
for my $line (1 .. 60_000) {
    my $text = join ' ', map { sprintf '%s%03d', ('ab', 'cde', 'fghi')[next_number() % 3], next_number() % 1000 } 1 .. 8;
    push @lines, $text;
    $count{$_}++ for split / /, $text;
}
my @top = (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 19];
print "$_ $count{$_}\n" for @top;
(my $all = join "\n", @lines) =~ s/\b([a-z]+)(\d)(\d+)\b/$3-$1x$2/g;
my $sum = 0;
$sum = ($sum * 31 + ord) % 1000000007 for split //, substr $all, 0, 400_000;
print length($all), " $sum\n";

# A child that works on what it inherited, and a pipe that brings its answer back.
for my $child (1 .. 4) {
    my $id = open(my $pipe, '-|') // die "fork: $!";
    if (!$id) {
        my %seen;
        $seen{substr $_, $child, 12}++ for @lines;
        print scalar(keys %seen), "\n";
        exit 0;
    }
    print "child $child: ", <$pipe>;
    close $pipe or die "child $child: $?";
}
