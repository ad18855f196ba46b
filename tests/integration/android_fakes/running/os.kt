package android.os

class Bundle {
    fun getString(name: String): String? = System.getProperty(name)
}
