// Loads and stores with cache hints (the hint does nothing here), fences and atomics.
#pragma once

template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline T __ldcg(const T* p) { return *p; }
template <class T> inline T __ldca(const T* p) { return *p; }
template <class T> inline T __ldlu(const T* p) { return *p; }
template <class T> inline void __stcs(T* p, T value) { *p = value; }
template <class T> inline void __stcg(T* p, T value) { *p = value; }
template <class T> inline void __stwb(T* p, T value) { *p = value; }
template <class T> inline void __stwt(T* p, T value) { *p = value; }

inline void __threadfence() { emu::note_fence(); }
inline void __threadfence_system() { emu::note_fence(); }
inline void __threadfence_block() {}

namespace emu {

// No thread is interrupted between two instructions, so a plain read-modify-write is atomic.
template <class T, class Op> EMU_UNWATCHED T read_modify_write(T* p, Op op) {
    note_atomic(p, sizeof(T));
    T old = *p;
    *p = op(old);
    return old;
}
template <class T> struct Identity { typedef T type; }; // keeps the value's type out of deduction: atomicAdd(float*, 1)
template <class T> using Value = typename Identity<T>::type;

}

template <class T> T atomicAdd(T* p, emu::Value<T> v) {
    return emu::read_modify_write(p, [=](T old) { return (T)(old + v); });
}
template <class T> T atomicSub(T* p, emu::Value<T> v) {
    return emu::read_modify_write(p, [=](T old) { return (T)(old - v); });
}
template <class T> T atomicMax(T* p, emu::Value<T> v) {
    return emu::read_modify_write(p, [=](T old) { return old < v ? v : old; });
}
template <class T> T atomicMin(T* p, emu::Value<T> v) {
    return emu::read_modify_write(p, [=](T old) { return v < old ? v : old; });
}
template <class T> T atomicOr(T* p, emu::Value<T> v) {
    return emu::read_modify_write(p, [=](T old) { return (T)(old | v); });
}
template <class T> T atomicAnd(T* p, emu::Value<T> v) {
    return emu::read_modify_write(p, [=](T old) { return (T)(old & v); });
}
template <class T> T atomicExch(T* p, emu::Value<T> v) {
    return emu::read_modify_write(p, [=](T) { return v; });
}
template <class T> T atomicCAS(T* p, emu::Value<T> expected, emu::Value<T> v) {
    return emu::read_modify_write(p, [=](T old) { return old == expected ? v : old; });
}
inline unsigned atomicInc(unsigned* p, unsigned limit) {
    return emu::read_modify_write(p, [=](unsigned old) { return old >= limit ? 0u : old + 1; });
}
