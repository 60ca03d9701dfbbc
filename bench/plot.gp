# Plots of report.sh: gnuplot -e "data='FILE'; type='case'; heading='...'; rows=N; cpus=N" plot.gp
# The background is opaque: so the plot can be read in a light and in a dark theme.
ink = "#1f2328"
faint = "#d0d7de"
set encoding utf8
set datafile separator tab
set datafile missing "-"
set border 0
set tics nomirror scale 0 textcolor rgb ink
set title heading textcolor rgb ink noenhanced
set key noenhanced textcolor rgb ink
set grid xtics lc rgb faint lw 1 lt 1
font = "sans-serif,12"

if (type eq "case") {
    # Ours, ours with another setting, peers, what the machine can do.
    array colour[4] = ["#0550ae", "#6cb6ff", "#bc4c00", "#656d76"]
    set terminal svg size 860, 70 + 20 * rows font font background rgb "#ffffff" noenhanced
    unset key
    stats data using (column(5) < 0 ? NaN : column(3)) nooutput
    low = 10 ** floor(log10(STATS_min))
    stats data using (column(5) < 0 ? NaN : column(4)) nooutput
    high = 10 ** ceil(log10(STATS_max * 1.3))
    set logscale x
    set xrange [low : high]
    set yrange [-rows + 0.5 : 0.5]
    set format x "%.10g"
    set lmargin 22
    set rmargin 9
    unset ytics
    is(i) = int(column(5)) == i
    # Names left of the axis: a heading, then its contenders.
    plot for [i = 1:4] data using 2:(is(i - 1) ? column(1) : NaN):3:4 \
            with xerrorbars pt 7 ps 0.7 lw 2 lc rgb colour[i], \
        data using (is(-1) ? low * 1.001 : NaN):1:6 with labels right offset -1, 0 \
            textcolor rgb ink, \
        data using (is(-1) ? NaN : low * 1.001):1:6 with labels right offset -1, 0 \
            textcolor rgb "#656d76", \
        data using (is(-1) ? NaN : column(4)):1:7 with labels left offset 0.8, 0 textcolor rgb ink
}

if (type eq "scaling") {
    set terminal svg size 760, 420 font font background rgb "#ffffff" noenhanced
    set logscale xy 2
    set logscale y 10
    set xlabel "workers" textcolor rgb ink
    set grid ytics lc rgb faint lw 1 lt 1
    set key outside right top
    set format y "%.10g"
    set xtics (1, 2, 4, 8, 16, 32)
    set xrange [0.9 : 18]
    set arrow 1 from cpus, graph 0 to cpus, graph 1 nohead lc rgb "#656d76" dt 2
    set label 1 sprintf("%d CPUs", cpus) at cpus, graph 0.97 offset 0.5, 0 textcolor rgb "#656d76"
    names = system("sed -n 1p '" . data . "'")
    colour_of(name) = name eq "sched.h" ? "#0550ae" : name eq "sched.h/no-lifo" ? "#6cb6ff" : \
        name eq "tokio" ? "#bc4c00" : name eq "tokio+je" ? "#e16f24" : name eq "go" ? "#1a7f37" : \
        name eq "tbb" ? "#8250df" : name eq "rayon" ? "#bf3989" : name eq "omp-gcc" ? "#656d76" : \
        name eq "omp-clang" ? "#9a6700" : "#8c959f"
    set datafile separator tab
    stats data skip 1 nooutput
    columns = STATS_columns
    plot for [i = 2:columns] data skip 1 using 1:i with linespoints pt 7 ps 0.7 \
        lw (word(names, i) eq "sched.h" ? 4 : 2) lc rgb colour_of(word(names, i)) \
        title word(names, i)
}

if (type eq "overview") {
    set terminal svg size 860, 90 + 18 * rows font font background rgb "#ffffff" noenhanced
    set key outside bottom center horizontal maxrows 1
    set logscale x
    set xrange [0.1:]
    set yrange [-rows + 0.5 : 0.7]
    set format x "%.10g"
    set lmargin 28
    set grid ytics lc rgb faint lw 1 lt 1
    set arrow 1 from 1, graph 0 to 1, graph 1 nohead lc rgb "#0550ae" lw 2
    plot data using 6:1:ytic(2) with points pt 9 ps 0.8 lc rgb "#8c959f" title "bare machine", \
        data using 5:1 with points pt 5 ps 0.8 lc rgb "#8250df" title "best of the others", \
        data using 4:1 with points pt 7 ps 0.8 lc rgb "#1a7f37" title "Go", \
        data using 3:1 with points pt 7 ps 0.9 lc rgb "#bc4c00" title "Tokio (better allocator)"
}
